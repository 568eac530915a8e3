export declare function jobProgram(root: string, node: string): string | null
