"""What pages are made of, and how it is filled in."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Our templates, in which everything is escaped that is not marked as HTML."""
    return Environment(
        loader=PackageLoader("infant_seg_jax.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_text(name: str) -> str:
    """A file beside the templates, as it is."""
    return (files(__name__) / name).read_text(encoding="utf-8")
