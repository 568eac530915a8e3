export function underFlag<T>(flags: { readonly flag: string; readonly usual: string }, work: () => T): T
