/** The results of all, which go on side by side. Where one fails, none goes on any more once this has thrown. */
export async function allEnded<All extends readonly unknown[]>(
  work: readonly [...{ [Key in keyof All]: Promise<All[Key]> }],
): Promise<All> {
  await Promise.allSettled(work)
  return (await Promise.all(work)) as unknown as All
}
