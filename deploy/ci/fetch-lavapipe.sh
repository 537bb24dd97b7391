#!/usr/bin/env bash
# Mesa's lavapipe, a Vulkan driver in software that has f16, for the tests of 16-bit activations; nothing where it is there already.
#
# Only the driver, in a folder of its own and not where Vulkan's loader looks: the package would upgrade Mesa, and make every process
# on the machine find a graphics driver. From the distribution's own suite, or from Debian's backports: before version 24 it is too old.
set -euo pipefail

folder=${1:-/usr/local/lib/manyhands-lavapipe}
[ -f "$folder/lvp_icd.json" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt fetches as a user of its own
apt-get -q update
version=$(apt-cache policy mesa-vulkan-drivers | awk '/Candidate:/ { print $2 }')
options=()
if dpkg --compare-versions "${version/(none)/0}" lt 24; then
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" | head -n 1)
  echo "deb $mirror $codename-backports main" >"$work/sources.list"
  mkdir -p "$work/lists/partial"
  options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists")
  apt-get -q "${options[@]}" update
fi
# What the driver loads (the names are the same in Debian 12 and 13), LLVM's by the package's own word.
(cd "$work" && apt-get -q "${options[@]}" download mesa-vulkan-drivers)
llvm=$(dpkg-deb -f "$work"/mesa-vulkan-drivers_*.deb Depends | grep -o 'libllvm[0-9.]*' | head -n 1)
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-upgrade libvulkan1 "$llvm" libdrm2 libelf1 libexpat1 \
  libwayland-client0 libx11-xcb1 libxcb-dri3-0 libxcb-present0 libxcb-randr0 libxcb-shm0 libxcb-sync1 libxcb-xfixes0 libxshmfence1 \
  libzstd1
dpkg-deb -x "$work"/mesa-vulkan-drivers_*.deb "$work/mesa"
driver=$(find "$work/mesa" -name libvulkan_lvp.so)
mkdir -p "$folder"
cp "$driver" "$folder/"
ldd "$folder/libvulkan_lvp.so" | grep 'not found' && { echo "lavapipe: what it needs is not there" >&2; exit 1; }
sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$folder/libvulkan_lvp.so\"#" "$work"/mesa/usr/share/vulkan/icd.d/lvp_icd*.json \
  >"$folder/lvp_icd.json"
