"""The research application: papers, their text, chunks, embeddings, and the search over them.

It builds on `workflows` and is never imported by it; its steps reach the engine by the entry point group
`celeriac.steps`, its tables by `celeriac.migrations`.
"""
