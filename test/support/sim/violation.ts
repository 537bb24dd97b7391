/** A promise of the design that was broken, by its id. */
export class Violation extends Error {
  readonly id: "I1" | "I2" | "I3" | "I4" | "I5" | "progress";

  constructor(id: Violation["id"], message: string) {
    super(`[${id}] ${message}`);
    this.name = "Violation";
    this.id = id;
  }
}
