"""``llama4sdk export --to onnx``: a checkpoint of any format as a directory that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

from llama4sdk.errors import ConfigurationError
from llama4sdk.exporter import Exporter, ExportOptions, ExportReport, Notice
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.exports import MANIFEST
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk_onnx.export.files import Wrote, require_space, write_bytes, write_piece
from llama4sdk_onnx.export.genai import GENAI_CONFIG, genai_config
from llama4sdk_onnx.export.journal import Begun, Journal, opened_journal
from llama4sdk_onnx.export.options import MADE_BY, Choices, chosen
from llama4sdk_onnx.export.outline import PATCH, Drawing, drawn
from llama4sdk_onnx.export.texts import text_files
from llama4sdk_onnx.export.verify import Verified, verified
from llama4sdk_onnx.export.weights.pieces import Piece
from llama4sdk_onnx.manifest import FileRecord, Manifest, is_export, manifest_text, read_manifest, verify_files

__all__ = ["OnnxExporter"]

#: The oldest ONNX Runtime that runs what is written.
RUNTIME: Final = "1.31"

#: Bytes written after which what was read for them need not stay in memory.
RELEASED: Final = 2**27


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
        """As the base class says."""
        source = open_checkpoint(checkpoint)
        choices = chosen(options, source)
        if is_export(target):
            return _already(target, source, choices)
        source.verify()
        tokenizer = source.tokenizer()
        work = _Work(source, target, choices, progress or (lambda done, total: None), notice or (lambda text: None))
        texts = text_files(source, tokenizer)
        if choices.kind == "fast":
            texts[GENAI_CONFIG] = genai_config(source, tokenizer)
        return work.write(
            drawn(source, choices, patch_token=tokenizer.control.get(PATCH)), texts, verify=options.verify
        )


class _Work:
    """One export under way."""

    def __init__(self, source: Checkpoint, target: Path, choices: Choices, progress: Progress, notice: Notice) -> None:
        self._source = source
        self._target = target
        self._choices = choices
        self._progress = progress
        self._notice = notice

    def write(self, drawing: Drawing, texts: Mapping[str, str], *, verify: bool) -> ExportReport:
        """Weights first, the manifest last."""
        begun = Begun(
            fingerprint=self._choices.journal_mark(self._source), pieces=tuple(piece.file for piece in drawing.pieces)
        )
        with opened_journal(self._target, begun, notice=self._notice) as journal:
            self._write_pieces(drawing, journal)
            records = dict(journal.done)
            small = {name: text.encode() for name, text in texts.items()} | drawing.graphs()
            for name, data in small.items():
                records[name] = write_bytes(self._target / name, data)
            outcome = Verified(reason="it was not wanted")
            if verify:
                self._notice("Comparing what the graph computes with the native engine …")
                outcome = verified(self._target, self._manifest(records, None), self._source)
            manifest = self._manifest(records, outcome.difference)
            write_bytes(self._target / MANIFEST, manifest_text(manifest).encode())
        return _report(self._target, manifest, unverified=outcome.reason)

    def _write_pieces(self, drawing: Drawing, journal: Journal) -> None:
        left = [piece for piece in drawing.pieces if piece.file not in journal.done]
        require_space(self._target, sum(piece.size for piece in left))
        total = sum(piece.source_bytes for piece in drawing.pieces)
        done = total - sum(piece.source_bytes for piece in left)
        self._progress(done, total)
        for piece in left:
            journal.write(piece.file, write_piece(self._target, piece, self._watched(piece, done, total)))
            done += piece.source_bytes

    def _watched(self, piece: Piece, done: int, total: int) -> Wrote:
        """Tells how far all is, and gives back the checkpoint's mapped memory now and then."""
        released = 0

        def wrote(size: int) -> None:
            nonlocal released
            if size - released >= RELEASED or size == piece.size:
                self._source.release()
                released = size
            self._progress(done + piece.source_bytes * size // piece.size, total)

        return wrote

    def _manifest(self, records: Mapping[str, FileRecord], difference: float | None) -> Manifest:
        source = self._source
        return Manifest(
            made_by=f"{MADE_BY} {version(MADE_BY)}",
            model=source.name,
            source=f"{source.format}, {source.path.resolve().name}",
            kind=self._choices.kind,
            opset=self._choices.opset,
            onnxruntime=RUNTIME,
            quantization=self._choices.quantization,
            config=source.config,
            vision=source.vision,
            stop_ids=tuple(sorted(source.stop_ids)),
            temperature=source.generation_defaults.temperature,
            top_p=source.generation_defaults.top_p,
            verified=difference,
            files={name: records[name] for name in sorted(records)},
            fingerprint=self._choices.fingerprint(source),
        )


def _already(target: Path, source: Checkpoint, choices: Choices) -> ExportReport:
    """Of a whole export of the same. Raises ConfigurationError for one of anything else, CheckpointError for damage."""
    manifest = read_manifest(target)
    if manifest.fingerprint != choices.fingerprint(source):
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
