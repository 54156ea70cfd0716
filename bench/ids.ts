/** Ids that no earlier run has used. */
export function idSource(): (count: number) => number {
  let next = 1;
  return (count) => {
    const first = next;
    next += count;
    return first;
  };
}
