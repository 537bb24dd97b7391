import { expect, test } from "vitest";
import { hasVulkanDriver } from "../../../worker-node/vulkanDriver.ts";

/** Whether a driver is found when the folders have these names in them. */
function found(environment: Record<string, string>, folders: Record<string, string[]> = {}): boolean {
  return hasVulkanDriver(environment, (folder) => folders[folder] ?? []);
}

const manifest = ["nvidia_icd.json"];

test("without a manifest there is no driver: folders may be empty, or hold other things", () => {
  expect(found({ HOME: "/home/u" })).toBe(false);
  expect(found({}, { "/etc/vulkan/icd.d": [], "/usr/share/vulkan/icd.d": ["README"] })).toBe(false);
  expect(found({}, { "/usr/share/vulkan/explicit_layer.d": ["layer.json"], "/opt/vulkan/icd.d": manifest })).toBe(
    false,
  );
});

test.each(["/etc", "/usr/local/etc", "/etc/xdg", "/usr/share", "/usr/local/share", "/run/opengl-driver/share"])(
  "a manifest below %s is found, also where the variables are empty",
  (root) => {
    const folders = { [`${root}/vulkan/icd.d`]: manifest };
    expect(found({}, folders)).toBe(true);
    expect(found({ XDG_CONFIG_DIRS: "", XDG_DATA_DIRS: "", VK_DRIVER_FILES: "" }, folders)).toBe(true);
  },
);

test("folders of one's own are below HOME, or where the variables say", () => {
  const inHome = { "/home/u/.config/vulkan/icd.d": manifest };
  const data = { "/home/u/.local/share/vulkan/icd.d": manifest };
  expect(found({ HOME: "/home/u" }, inHome)).toBe(true);
  expect(found({ HOME: "/home/u", XDG_CONFIG_HOME: "/elsewhere" }, inHome)).toBe(false);
  expect(found({ XDG_CONFIG_HOME: "/home/u/.config" }, inHome)).toBe(true);
  expect(found({ HOME: "/home/u" }, data)).toBe(true);
  expect(found({ HOME: "/home/u", XDG_DATA_HOME: "/elsewhere" }, data)).toBe(false);
});

test("variables with several folders replace the usual ones", () => {
  const folders = { "/opt/b/vulkan/icd.d": manifest };
  expect(found({ XDG_DATA_DIRS: "/opt/a:/opt/b" }, folders)).toBe(true);
  expect(found({ XDG_CONFIG_DIRS: "/opt/a:/opt/b" }, folders)).toBe(true);
  expect(found({ XDG_DATA_DIRS: "/opt/a" }, { "/usr/share/vulkan/icd.d": manifest })).toBe(false);
});

test.each(["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"])("%s names a driver itself", (variable) => {
  expect(found({ [variable]: "/opt/driver.json" })).toBe(true);
});
