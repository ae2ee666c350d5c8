"""AMD, Apple, disks and software, read from files and values of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama4sdk import settings
from llama4sdk.catalog.accelerators import find_accelerator
from llama4sdk.hardware import Link, Runtime
from llama4sdk.probe import amd, apple, cpu, disk, memory, software
from llama4sdk.probe.gpus import Gpus

GIB = 2**30


def node(root: Path, number: int, drm: int, **facts: int) -> Path:
    """A node of AMD's compute driver, with the files of its graphics device."""
    path = root / "kfd/kfd/topology/nodes" / str(number)
    path.mkdir(parents=True)
    values = {"simd_count": 1216, "gfx_target_version": 90402, "unique_id": 0xABC0 + number, "drm_render_minor": drm}
    (path / "properties").write_text("".join(f"{key} {value}\n" for key, value in (values | facts).items()))
    return path


def pool(root: Path, drm: int, *, total: int, used: int, name: str = "vram") -> Path:
    files = root / f"drm/renderD{drm}/device"
    files.mkdir(parents=True, exist_ok=True)
    (files / f"mem_info_{name}_total").write_text(f"{total}\n")
    (files / f"mem_info_{name}_used").write_text(f"{used}\n")
    return files


@pytest.fixture
def instincts(tmp_path: Path) -> Path:
    """A processor and two MI300X with a link between them."""
    node(tmp_path, 0, 0, simd_count=0)
    for number, drm in ((1, 128), (2, 136)):
        path = node(tmp_path, number, drm)
        link = path / "io_links/0"
        link.mkdir(parents=True)
        (link / "properties").write_text(f"type 11\nnode_to {3 - number}\nmax_bandwidth 64000\n")
        (pool(tmp_path, drm, total=192 * GIB, used=2 * GIB) / "product_name").write_text("AMD Instinct MI300X OAM\n")
    return tmp_path


def test_no_compute_driver_is_no_gpu(tmp_path: Path) -> None:
    """Without AMD's compute driver there are no GPUs."""
    assert amd.read(tmp_path, {}) == Gpus()


def test_amd_gpus_are_described(instincts: Path) -> None:
    """Nodes that are processors are left out; a pair of links is one link."""
    amd_gpus = amd.read(instincts, {})
    assert [(d.id, d.name, d.architecture, d.uuid, d.unified) for d in amd_gpus.devices] == [
        ("rocm:0", "AMD Instinct MI300X OAM", "gfx942", "GPU-abc1", False),
        ("rocm:1", "AMD Instinct MI300X OAM", "gfx942", "GPU-abc2", False),
    ]
    assert {(d.total_memory, d.free_memory) for d in amd_gpus.devices} == {(192 * GIB, 190 * GIB)}
    assert amd_gpus.links == (Link(devices=("rocm:0", "rocm:1"), kind="xgmi", bandwidth=64_000_000_000),)


def test_amd_s_variables_number_what_the_other_leaves(instincts: Path) -> None:
    """HIP_VISIBLE_DEVICES counts the devices that ROCR_VISIBLE_DEVICES leaves."""
    variables = {"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}
    amd_gpus = amd.read(instincts, variables)
    assert [device.uuid for device in amd_gpus.devices] == ["GPU-abc2"]
    assert amd_gpus.hidden == ("AMD Instinct MI300X OAM",)
    assert amd.read(instincts, {"HIP_VISIBLE_DEVICES": ""}).devices == ()


def test_an_apu_works_in_what_the_driver_lends_it(tmp_path: Path) -> None:
    """An APU such as Strix Halo uses the machine's memory if its own is smaller."""
    node(tmp_path, 0, 128, cpu_cores_count=32, gfx_target_version=110501, unique_id=0)
    pool(tmp_path, 128, total=GIB // 2, used=GIB // 4)
    pool(tmp_path, 128, total=96 * GIB, used=GIB, name="gtt")
    (device,) = amd.read(tmp_path, {}).devices
    assert (device.name, device.unified, device.total_memory, device.free_memory) == (
        "AMD gfx1151",
        True,
        96 * GIB,
        95 * GIB,
    )


def test_what_was_set_aside_for_an_apu_is_its_own(tmp_path: Path) -> None:
    """Memory reserved for an APU counts beside the machine's, which no longer includes it."""
    node(tmp_path, 0, 128, cpu_cores_count=32, gfx_target_version=110501, unique_id=0)
    pool(tmp_path, 128, total=96 * GIB, used=GIB)
    pool(tmp_path, 128, total=16 * GIB, used=0, name="gtt")
    (device,) = amd.read(tmp_path, {}).devices
    assert (device.unified, device.free_memory) == (False, 95 * GIB)


@pytest.mark.parametrize(
    ("name", "version", "clock", "width"),
    [
        ("MI300X", 90402, 1300, 8192),
        ("MI210", 90010, 1600, 4096),
        ("MI50", 90006, 1000, 4096),
        ("RX 7900 XTX", 110000, 1249, 384),
        ("RX 9070 XT", 120001, 1258, 256),
    ],
)
def test_an_amd_card_s_bandwidth_follows_from_its_memory(
    tmp_path: Path, name: str, version: int, clock: int, width: int
) -> None:
    """Bandwidth is as specified within 3%, and unknown if the kernel does not list the memory."""
    path = node(tmp_path, 0, 128, gfx_target_version=version)
    pool(tmp_path, 128, total=32 * GIB, used=GIB)
    assert amd.read(tmp_path, {}).devices[0].memory_bandwidth is None
    bank = path / "mem_banks/0"
    bank.mkdir(parents=True)
    (bank / "properties").write_text(f"heap_type 1\nsize_in_bytes 1\nwidth {width}\nmem_clk_max {clock}\n")
    (device,) = amd.read(tmp_path, {}).devices
    assert device.memory_bandwidth == pytest.approx(find_accelerator(name).bandwidth, rel=0.03)


@pytest.mark.parametrize(
    ("answers", "total"),
    [
        ({"hw.memsize": 16 * GIB}, 16 * GIB * 2 // 3),
        ({"hw.memsize": 64 * GIB}, 48 * GIB),
        ({"hw.memsize": 64 * GIB, "iogpu.wired_limit_mb": 57_344}, 56 * GIB),
    ],
)
def test_a_mac_lends_its_gpu_a_share(answers: dict[str, int], total: int) -> None:
    """The GPU has the default share or the configured one, and never more than is free."""
    values: dict[str, int | str] = {"machdep.cpu.brand_string": "Apple M3 Max", **answers}
    (device,) = apple.read(40 * GIB, lambda name: values.get(name))
    assert (device.id, device.name, device.unified) == ("mps", "Apple M3 Max", True)
    assert (device.total_memory, device.free_memory) == (total, min(total, 40 * GIB))


MOUNTS = """\
22 1 254:1 / / rw - ext4 /dev/root rw
23 22 8:2 / /data rw - xfs /dev/sda2 rw
24 22 0:50 / /net rw - nfs4 server:/x rw
25 22 0:51 / /run rw - tmpfs tmpfs rw
26 22 259:2 / /fast rw - ext4 /dev/nvme0n1p2 rw
"""


@pytest.mark.parametrize(
    ("number", "expected"),
    [("0:50", "network"), ("0:51", "memory"), ("8:2", "hdd"), ("259:2", "nvme"), ("254:1", None), ("9:9", None)],
)
def test_kinds_of_disks(number: str, expected: str | None, tmp_path: Path) -> None:
    """The kind follows from the file system or the physical disk; that of a virtual disk is unknown."""
    mounts, blocks = tmp_path / "mountinfo", tmp_path / "block"
    mounts.write_text(MOUNTS)
    blocks.mkdir()
    for device, disk_name, part in (
        ("8:2", "sda", "sda2"),
        ("259:2", "nvme0n1", "nvme0n1p2"),
        ("254:1", "vda", "vda1"),
    ):
        path = tmp_path / "devices" / disk_name / part
        path.mkdir(parents=True)
        (path / "partition").write_text("2")
        (path.parent / "queue").mkdir()
        (path.parent / "queue/rotational").write_text("1\n")
        (blocks / device).symlink_to(path)
    major, minor = map(int, number.split(":"))
    assert disk.disk_kind(major, minor, mounts=mounts, blocks=blocks) == expected


def test_a_disk_is_found_under_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    """The nearest existing parent stands for a path that does not exist."""
    assert disk.read(tmp_path / "a" / "b").free == pytest.approx(disk.read(tmp_path).free, rel=0.05)


@pytest.mark.parametrize(
    ("source", "build"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "cpu"),
        ("__version__ = '2.9.0'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "cuda 13.0"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482'\n", "rocm 6.4.43482"),
        ("cuda = '11.8'\n", "cuda 11.8"),
    ],
)
def test_torch_s_build_is_read_without_importing_it(source: str, build: str) -> None:
    """The build is read from torch's version.py."""
    assert software.torch_build(source) == build


def test_installed_libraries_are_listed() -> None:
    """Installed runtimes are listed with their versions."""
    import numpy  # noqa: F401 - not among them

    runtimes = {runtime.name: runtime for runtime in software.runtimes()}
    assert "numpy" not in runtimes
    assert runtimes["torch"] == Runtime(name="torch", version=runtimes["torch"].version, build="cpu")


def test_credentials_are_named_and_never_shown(tmp_path: Path) -> None:
    """Set variables and existing files are named; files are not opened."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("aws_secret_access_key = s3cret")
    credentials = software.credentials({"HF_TOKEN": "hf_s3cret", "OPENAI_API_KEY": ""}, home=tmp_path)
    assert credentials == ("HF_TOKEN", "~/.aws/credentials")


def test_variables_that_matter_are_shown_without_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are only said to be set; addresses are shown without user, password and query."""
    expected = {
        "OPENAI_BASE_URL": ("http://u:s3/cret@host:1/v1?key=s3cret", "http://host:1/v1"),
        "OLLAMA_HOST": ("u:s3cret@host:1", "host:1"),
        "https_proxy": ("http://u:s3@cret@proxy:3128", "http://proxy:3128"),
        "AWS_REGION": ("us-east-1", "us-east-1"),
        "AWS_SECRET_ACCESS_KEY": ("s3cret", "(set)"),
        "AZURE_INFERENCE_CREDENTIAL": ("s3cret", "(set)"),
        "LLAMA4SDK_ENDPOINTS": ("/me@work/a.csv", "/me@work/a.csv"),
    }
    for name, (value, _) in expected.items():
        monkeypatch.setenv(name, value)
    variables = settings.in_use()
    assert {name: variables[name] for name in expected} == {name: value for name, (_, value) in expected.items()}


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    """The lowest limit of any group above this process counts."""
    own_groups = tmp_path / "cgroup"
    own_groups.write_text("4:memory:/box\n0::/a.slice/b.scope\n")
    group = tmp_path / "v2/a.slice/b.scope"
    group.mkdir(parents=True)
    for path, limit in ((group, "max"), (group.parent, "1000"), (group.parent.parent, "5000")):
        (path / "memory.max").write_text(limit)
        (path / "memory.current").write_text("400")
        (path / "memory.stat").write_text("inactive_file 100\n")
    assert list(memory.limits(v2=tmp_path / "v2", v1=tmp_path / "v1", own=own_groups)) == [(1000, 300), (5000, 300)]


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("1000 100000", 1), ("-1 100000", None), ("", None)]
)
def test_a_quota_of_time_is_a_number_of_cores(text: str, cores: int | None) -> None:
    """A quota is rounded up to cores; without a limit it is None."""
    assert cpu.quota(text) == cores


def test_what_a_distribution_has_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unconditional requirements that are installed and too old are listed."""
    wanted = ["old>=2.9", "new>=1", "same>=3.0", "absent>=1", "extra>=9; extra == 'x'", "any", "local[all]>=2.9,<4"]
    for name, version in {
        "old": "2.4.1", "new": "10.1", "same": "3", "extra": "1", "any": "0", "local": "2.9.0+cpu", "asks": "1",
    }.items():  # fmt: skip
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {line}\n" for line in wanted] if name == "asks" else []
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(software.outdated_requirements("asks")) == [("old", "2.4.1", "2.9")]


@pytest.mark.parametrize("variables", [{"HF_HOME": "{0}"}, {"HF_TOKEN_PATH": "{0}/token"}, {"XDG_CACHE_HOME": "{0}/c"}])
def test_the_hub_s_token_is_found_where_its_own_tools_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """The hub's token is found by all of its variables, under one name."""
    for name in ("HF_HOME", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert software.HUB_TOKEN not in software.credentials({})
    path = tmp_path / ("c/huggingface/token" if "XDG_CACHE_HOME" in variables else "token")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hf_s3cret")
    assert software.HUB_TOKEN in software.credentials({})
