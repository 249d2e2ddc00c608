"""What turns texts into vectors: a model in this process, or a server; all behind `pipeline.embedding.Embedder`."""
