import { expect, test } from "vitest";
import { createPublisher } from "../../../coordinator/optimizer/publish.ts";

function publisherWith(updates: number) {
  const publisher = createPublisher({ maxUpdateBytes: 1000 });
  for (let version = 1; version <= updates; version++) {
    publisher.add({ version, hash: String(version), payload: new Uint8Array(100) });
  }
  return publisher;
}

const versions = (updates: readonly { version: number }[] | null) => updates?.map(({ version }) => version) ?? null;

test("the updates since a version, when they are no more bytes than allowed", () => {
  const publisher = publisherWith(5);
  expect(versions(publisher.since(2, 5, 300))).toEqual([3, 4, 5]);
  expect(publisher.since(2, 5, 299)).toBeNull();
  expect(versions(publisher.since(5, 5, 0))).toEqual([]);
});

test("what is not kept any more, and what was never published, cannot be sent", () => {
  const publisher = publisherWith(50);
  expect(versions(publisher.since(40, 50, Infinity))).toHaveLength(10);
  expect(publisher.since(39, 50, Infinity)).toBeNull();
  expect(publisher.since(51, 50, Infinity)).toBeNull();
});
