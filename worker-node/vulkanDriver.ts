/**
 * @file Whether Vulkan's loader has a driver to find. Without one Dawn prints lines about it, which on a machine without a GPU are
 * news of nothing. Source: Khronos' LoaderDriverInterface.md, "Driver Discovery on Linux".
 */
import path from "node:path";

/**
 * True where a driver is named in the environment, or one of the loader's folders has a manifest (`*.json`). Whether it works is
 * for the loader to say.
 *
 * @param namesIn the names in a folder; none where there is no such folder.
 */
export function hasVulkanDriver(
  environment: Readonly<Record<string, string | undefined>>,
  namesIn: (folder: string) => readonly string[],
): boolean {
  const isNamed = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"].some((name) => environment[name]);
  return (
    isNamed || manifestFolders(environment).some((folder) => namesIn(folder).some((name) => name.endsWith(".json")))
  );
}

/** Where the loader looks, first to last. Unset and empty variables are the same to it. */
function manifestFolders(environment: Readonly<Record<string, string | undefined>>): string[] {
  const home = environment["HOME"];
  const personal = (variable: string, inHome: string): string[] =>
    environment[variable] ? [environment[variable]] : home ? [path.posix.join(home, inHome)] : [];
  const listed = (variable: string, otherwise: string): string[] =>
    (environment[variable] || otherwise).split(":").filter((folder) => folder !== "");
  const roots = [
    ...personal("XDG_CONFIG_HOME", ".config"),
    ...listed("XDG_CONFIG_DIRS", "/etc/xdg"),
    // Where the loader was built for: distributions' own, and what was installed by hand.
    "/usr/local/etc",
    "/etc",
    ...personal("XDG_DATA_HOME", ".local/share"),
    ...listed("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
    // NixOS' loader.
    "/run/opengl-driver/share",
  ];
  return roots.map((root) => path.posix.join(root, "vulkan/icd.d"));
}
