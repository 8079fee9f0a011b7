"""The rooms: who may import whom, read off the source; and the habits that a reader relies on."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FROZEN = {"wan_core.specs", "wan_core.types", "wan_core.errors", "wan_core.vocabulary"}
CORE = "wan_core"
FORBIDDEN: dict[str, set[str]] = {
    # room: what it never imports (a prefix covers everything below it)
    "app.py": {"wan_core.model", "wan_core.sample", "wan_core.condition", "wan_core.weights", "kernels"},
    "wan_core/ui": {"wan_core.model", "wan_core.pipeline", "wan_core.sample", "wan_core.condition",
                    "wan_core.weights", "wan_core.ops", "kernels", "torch", "diffusers"},
    "wan_core/studio": {"gradio", "spaces", "wan_core.ui", "wan_core.model", "kernels"},
    "wan_core/pipeline.py": {"gradio", "spaces", "wan_core.ui", "wan_core.assembly"},
    "wan_core/assembly.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.sample"},
    "wan_core/shots.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline"},
    "wan_core/parts.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline", "wan_core.shots"},
    "wan_core/memo.py": {"gradio", "spaces", "diffusers", "transformers", "wan_core.ui", "wan_core.studio",
                         "wan_core.pipeline", "wan_core.model", "wan_core.sample", "wan_core.condition"},
    "wan_core/velocity.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline",
                             "wan_core.shots", "wan_core.parts"},
    "wan_core/condition": {"gradio", "wan_core.sample", "wan_core.studio", "wan_core.ui", "wan_core.pipeline"},
    "wan_core/sample": {"gradio", "wan_core.model", "wan_core.condition", "wan_core.weights", "wan_core.studio",
                        "wan_core.ui", "wan_core.pipeline", "kernels", "wan_core.ops"},
    "wan_core/clip.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline", "wan_core.model"},
    "wan_core/memory.py": {"gradio", "spaces", "wan_core.sample", "wan_core.model", "wan_core.studio", "wan_core.ui",
                           "wan_core.pipeline"},
    "wan_core/compile.py": {"gradio", "spaces", "wan_core.sample", "wan_core.studio", "wan_core.ui",
                            "wan_core.pipeline", "wan_core.condition"},
    "wan_core/artifact.py": {"gradio", "spaces", "wan_core.sample", "wan_core.studio", "wan_core.ui",
                             "wan_core.pipeline", "wan_core.condition"},
    "wan_core/calibrate.py": {"gradio", "spaces", "wan_core.studio", "wan_core.ui", "kernels"},
    "wan_core/magnitude.py": {"gradio", "torch", "wan_core.sample", "wan_core.model", "wan_core.studio", "wan_core.ui"},
    "wan_core/decoding.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline",
                             "wan_core.assembly", "wan_core.weights", "wan_core.shots", "wan_core.sample", "kernels"},
    "wan_core/denoising.py": {"gradio", "spaces", "wan_core.ui", "wan_core.studio", "wan_core.pipeline",
                              "wan_core.assembly", "wan_core.weights", "wan_core.shots", "kernels"},
    "wan_core/precision.py": {"gradio", "spaces", "diffusers", "wan_core"},
    "wan_core/offload.py": {"gradio", "spaces", "wan_core.sample", "wan_core.model", "wan_core.studio", "wan_core.ui",
                            "wan_core.pipeline", "wan_core.parts"},
    "wan_core/placement.py": {"gradio", "spaces", "wan_core.sample", "wan_core.model", "wan_core.studio",
                              "wan_core.ui", "wan_core.pipeline", "wan_core.plan"},
    "wan_core/plan.py": {"gradio", "torch", "wan_core.sample", "wan_core.model", "wan_core.studio", "wan_core.ui"},
    "wan_core/weights": {"gradio", "wan_core.sample", "wan_core.studio", "wan_core.ui", "wan_core.condition",
                         "wan_core.pipeline"},
    "wan_core/model": {"gradio", "logging", "os", "pathlib", "wan_core.weights", "wan_core.sample",
                       "wan_core.condition", "wan_core.studio", "wan_core.ui", "wan_core.pipeline", "kernels"},
    "wan_core/ops.py": {"gradio", "wan_core.model", "wan_core.weights", "wan_core.sample", "wan_core.condition",
                        "wan_core.studio", "wan_core.ui", "wan_core.pipeline"},
    "kernels": {"wan_core", "gradio", "diffusers", "transformers"},
    "kernels/__init__.py": {"kernels.fused", "triton"},
    "kernels/reference": {"kernels.fused", "kernels.cpu", "triton"},
    "kernels/cpu": {"kernels.fused", "triton"},
}  # fmt: skip
#: One line each: a file that breaks a rule of its room, and why.
EXCEPTIONS = {
    ("app.py", "wan_core.weights.describe"): "what a model is, from its JSON files, before anything heavy is imported",
    ("wan_core/clip.py", "wan_core.studio.media"): "Clip.save writes a file, inside the call",
}


def sources(room: str) -> list[Path]:
    path = ROOT / room
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_import_downwards(room: str) -> None:
    files = sources(room)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        for banned in FORBIDDEN[room]
        if (name == banned or name.startswith(banned + "."))
        and not any(str(path.relative_to(ROOT)) == f and name.startswith(i) for f, i in EXCEPTIONS)
    ]
    assert not wrong


def test_frozen_data_imports_nothing_of_ours_but_itself() -> None:
    for module in FROZEN:
        path = ROOT / (module.replace(".", "/") + ".py")
        ours = {n for n in imports(path) if n.startswith((CORE, "kernels"))}
        assert all(any(n.startswith(f) for f in FROZEN) for n in ours), (path, ours)


def test_only_ops_opens_the_door_to_kernels() -> None:
    for path in sources("wan_core"):
        if any(n == "kernels" or n.startswith("kernels.") for n in imports(path)):
            assert path.name == "ops.py"


def test_files_and_functions_stay_small() -> None:
    for path in [*sources("wan_core"), *sources("kernels"), *sources("assets"), ROOT / "app.py"]:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 450, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno <= 80, (path, node.name)


def test_every_file_opens_by_saying_what_it_owns() -> None:
    for path in [*sources("wan_core"), *sources("kernels"), *sources("assets"), ROOT / "app.py"]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_public_names_are_sorted_and_real() -> None:
    import wan_core

    assert wan_core.__all__ == sorted(wan_core.__all__, key=lambda n: (not n.isupper(), n.islower(), n))
    assert all(hasattr(wan_core, n) for n in wan_core.__all__)


def test_the_package_that_our_kernels_folder_hides_is_absent() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("kernels")


def test_core_works_without_gradio_spaces_and_triton() -> None:
    code = (
        "import sys\n"
        "for name in ('gradio', 'spaces', 'triton'): sys.modules[name] = None\n"
        "import wan_core, wan_core.plan, wan_core.studio.media, kernels.reference\n"
        "assert 'torch' not in dir(wan_core)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=ROOT)


def test_importing_the_package_does_no_work() -> None:
    code = "import sys, wan_core\nassert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_file_is_too_large_for_a_space() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, cwd=ROOT, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        assert not path.exists() or path.stat().st_size < 10_000_000, name
