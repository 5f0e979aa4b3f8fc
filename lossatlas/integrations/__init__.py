"""Callbacks of other training programs that record a run, see `lossatlas.Recorder`: `lightning`, `transformers`."""
