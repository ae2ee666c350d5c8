"""``llama4sdk export --to onnx``: write a checkpoint of any format as a directory that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

import onnx_ir as ir

from llama4sdk.errors import CheckpointError, ConfigurationError
from llama4sdk.exporter import Exporter, ExportOptions, ExportReport, Notice
from llama4sdk.llama4.images.canvas import PATCH
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.exports import MANIFEST
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk_onnx.export.files import WriteProgress, require_space, write_bytes, write_weight_file
from llama4sdk_onnx.export.genai import GENAI_CONFIG, GENAI_GRAPH, genai_config, genai_graph
from llama4sdk_onnx.export.graphs.text import text_graph
from llama4sdk_onnx.export.graphs.vision import vision_graph
from llama4sdk_onnx.export.journal import Journal, JournalHeader, open_journal
from llama4sdk_onnx.export.options import DISTRIBUTION, ResolvedOptions, resolve_options
from llama4sdk_onnx.export.text_files import text_files
from llama4sdk_onnx.export.verify import RELEASE_INTERVAL_BYTES, Verification, verify_export
from llama4sdk_onnx.export.weights.text_weights import DTYPES, text_weight_files
from llama4sdk_onnx.export.weights.vision_weights import vision_weight_files
from llama4sdk_onnx.export.weights.weight_file import WeightFile
from llama4sdk_onnx.manifest import (
    GRAPH,
    VISION_GRAPH,
    FileRecord,
    Manifest,
    is_export,
    manifest_text,
    read_manifest,
    verify_files,
)

#: The oldest ONNX Runtime that runs the graphs.
MIN_ONNXRUNTIME: Final = "1.31"


class OnnxExporter(Exporter):
    """Writes graphs for ONNX Runtime, a file of weights at a time, and never holds more than a matrix."""

    name: ClassVar[str] = "onnx"

    def export(
        self,
        checkpoint: Path,
        target: Path,
        options: ExportOptions,
        *,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> ExportReport:
        """Write the checkpoint into ``target``; see ``Exporter.export``."""
        source = open_checkpoint(checkpoint)
        resolved = resolve_options(options, source)
        if is_export(target):
            return _existing_export(target, source, resolved)
        source.verify()
        tokenizer = source.tokenizer()
        texts = text_files(source, tokenizer)
        if resolved.kind == "fast":
            texts[GENAI_CONFIG] = genai_config(source, tokenizer)
        patch_token = None if source.vision is None else tokenizer.control.get(PATCH)
        if source.vision is not None and patch_token is None:
            raise CheckpointError(f"{source.path} sees images, but its tokenizer has no '{PATCH}' to put them at.")
        export = _Export(
            source, target, resolved, progress or (lambda done, total: None), notice or (lambda text: None)
        )
        return export.write(texts, patch_token, verify=options.verify)


@dataclass(frozen=True, slots=True)
class _Export:
    """One export that is being written."""

    source: Checkpoint
    target: Path
    options: ResolvedOptions
    progress: Progress
    notice: Notice

    def write(self, texts: Mapping[str, str], patch_token: int | None, *, verify: bool) -> ExportReport:
        """Write the weights first and the manifest last. Image features stand in the places of ``patch_token``."""
        text_weights = text_weight_files(self.source, self.options.quantization, kind=self.options.kind)
        vision_weights = vision_weight_files(self.source, DTYPES[self.options.quantization.dtype])
        weight_files = [*text_weights, *vision_weights]
        header = JournalHeader(
            fingerprint=self.options.journal_fingerprint(self.source),
            pieces=tuple(file.path for file in weight_files),
        )
        with open_journal(self.target, header, notice=self.notice) as journal:
            self._write_weights(weight_files, journal)
            records = dict(journal.records)
            small = {name: text.encode() for name, text in texts.items()}
            small |= self._graphs(text_weights, vision_weights, patch_token)
            for name, data in small.items():
                records[name] = write_bytes(self.target / name, data)
            verification = Verification(reason="it was not wanted")
            if verify:
                self.notice("Comparing what the graph computes with the native engine …")
                verification = verify_export(self.target, self._manifest(records, None), self.source)
            manifest = self._manifest(records, verification.difference)
            write_bytes(self.target / MANIFEST, manifest_text(manifest).encode())
        return _report(self.target, manifest, unverified=verification.reason)

    def _graphs(
        self, text_weights: Sequence[WeightFile], vision_weights: Sequence[WeightFile], patch_token: int | None
    ) -> dict[str, bytes]:
        """The files of graphs by name: the same bytes for the same graph. Weights stay in the files that it names."""
        config, vision, options = self.source.config, self.source.vision, self.options
        dtype, kind, opset = DTYPES[options.quantization.dtype], options.kind, options.opset
        build_text = partial(text_graph, config, text_weights, dtype=dtype, kind=kind, opset=opset)
        models = {GRAPH: build_text(patch_token=patch_token)}
        if kind == "fast":
            models[GENAI_GRAPH] = genai_graph(build_text())
        if vision is not None:
            models[VISION_GRAPH] = vision_graph(
                vision, config.hidden_size, vision_weights, dtype=dtype, opset=opset, kind=kind
            )
        return {
            name: ir.serde.serialize_model(model).SerializeToString(deterministic=True)
            for name, model in models.items()
        }

    def _write_weights(self, files: Sequence[WeightFile], journal: Journal) -> None:
        """Write the files of weights that the journal does not have yet."""
        missing = [file for file in files if file.path not in journal.records]
        require_space(self.target, sum(file.size for file in missing))
        total = sum(file.source_bytes for file in files)
        done = total - sum(file.source_bytes for file in missing)
        self.progress(done, total)
        for file in missing:
            journal.write(file.path, write_weight_file(self.target, file, self._file_progress(file, done, total)))
            done += file.source_bytes

    def _file_progress(self, file: WeightFile, done: int, total: int) -> WriteProgress:
        """A callback that reports the whole export's progress, and releases mapped memory now and then."""
        released = 0

        def report(size: int) -> None:
            nonlocal released
            if size - released >= RELEASE_INTERVAL_BYTES or size == file.size:
                self.source.release()
                released = size
            self.progress(done + file.source_bytes * size // file.size, total)

        return report

    def _manifest(self, records: Mapping[str, FileRecord], difference: float | None) -> Manifest:
        source = self.source
        return Manifest(
            made_by=f"{DISTRIBUTION} {version(DISTRIBUTION)}",
            model=source.name,
            source=f"{source.format}, {source.path.resolve().name}",
            kind=self.options.kind,
            opset=self.options.opset,
            onnxruntime=MIN_ONNXRUNTIME,
            quantization=self.options.quantization,
            config=source.config,
            vision=source.vision,
            stop_ids=tuple(sorted(source.stop_ids)),
            temperature=source.generation_defaults.temperature,
            top_p=source.generation_defaults.top_p,
            verified=difference,
            files={name: records[name] for name in sorted(records)},
            fingerprint=self.options.fingerprint(source),
        )


def _existing_export(target: Path, source: Checkpoint, options: ResolvedOptions) -> ExportReport:
    """The report of an export that is whole already.

    Raises ConfigurationError for an export of another checkpoint or with other options, CheckpointError for damage.
    """
    manifest = read_manifest(target)
    if manifest.fingerprint != options.fingerprint(source):
        raise ConfigurationError(
            f"{target} holds an export of '{manifest.model}' in {manifest.quantization}, made of other files or with "
            "other options.",
            hint="Give another directory, or remove this one.",
        )
    verify_files(target, manifest)
    return _report(target, manifest, unverified="it was not tried when it was written", already=True)


def _report(target: Path, manifest: Manifest, *, unverified: str | None, already: bool = False) -> ExportReport:
    sizes = [record.size for record in manifest.files.values()]
    return ExportReport(
        path=str(target),
        size=sum(sizes) + (target / MANIFEST).stat().st_size,
        files=len(sizes) + 1,
        quantization=str(manifest.quantization),
        opset=manifest.opset,
        verified=manifest.verified,
        unverified=unverified if manifest.verified is None else None,
        already=already,
    )
