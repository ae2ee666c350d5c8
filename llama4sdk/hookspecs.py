"""The hooks that a plugin implements: one or both.

# pyproject.toml                          # my_package/plugin.py
[project.entry-points.llama4sdk]          from llama4sdk.backend import BackendInfo
mine = "my_package.plugin"                from llama4sdk.hookspecs import hookimpl

                                          @hookimpl
                                          def llama4sdk_backends() -> list[BackendInfo]: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from llama4sdk.backend import BackendInfo
    from llama4sdk.exporter import ExporterInfo

__all__ = ["ENTRY_POINT_GROUP", "hookimpl", "hookspec"]

ENTRY_POINT_GROUP = "llama4sdk"

hookspec = pluggy.HookspecMarker("llama4sdk")
hookimpl = pluggy.HookimplMarker("llama4sdk")


@hookspec
def llama4sdk_backends() -> list[BackendInfo]:  # type: ignore[empty-body]
    """Return the backends of this plugin. Must be quick and import nothing heavy."""


@hookspec
def llama4sdk_exporters() -> list[ExporterInfo]:  # type: ignore[empty-body]
    """Return the exporters of this plugin. Must be quick and import nothing heavy."""
