"""Words that options, Python arguments and files share, each list once. Without torch, so that `--help` is quick."""

PRECISIONS = ("float32", "float64", "tf32", "bfloat16", "float16")
MEMORIES = ("fast", "low")  # how much of it a job may take, see `jobs.inputs.network_memory`
NORMS = ("filter", "layer", "weight", "dfilter", "dlayer", "unit")
SCHEMES = ("linear2x", "barycentric")
CURVES = ("bezier", "polygonal")
LOSS_NAMES = ("crossentropy", "mse", "next_token", "multiple_choice")
LOOKS = ("paper", "dark", "print")  # of figures, see `figures.palette`
COLOURS = ("value", "blended")  # what the colours of a field follow, see `figures.colour_scale`
