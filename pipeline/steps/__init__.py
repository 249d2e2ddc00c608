"""The research steps that a definition names by `uses:`; importing this package registers them."""

from pipeline.steps import embed, fetch, process_papers, re_embed, store

__all__ = ["embed", "fetch", "process_papers", "re_embed", "store"]
