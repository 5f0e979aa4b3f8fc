"""Train a network of the zoo and write its checkpoint with a JSON that says how it was made.

python train.py --model resnet20 --dataset fashion_mnist_mini --epochs 5 --out trained_nets/mine.safetensors
python train.py --model resnet56_noshort --dataset fashion_mnist --epochs 12 --bfloat16 --out plain.safetensors
"""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from errors import BadUsage, exit_code


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = p.add_argument_group("what")
    what.add_argument("--model", default="resnet56", help="name in the zoo (default: %(default)s)")
    what.add_argument("--dataset", default="fashion_mnist_mini", help="name of the data set (default: %(default)s)")
    what.add_argument("--datapath", help="folder that holds the data set")
    how = p.add_argument_group("how")
    how.add_argument("--epochs", type=int, default=10)
    how.add_argument("--batch_size", type=int, default=128)
    how.add_argument("--lr", type=float, default=0.1, help="peak learning rate (default: %(default)s)")
    how.add_argument("--momentum", type=float, default=0.9)
    how.add_argument("--weight_decay", type=float, default=5e-4)
    how.add_argument("--schedule", choices=("cosine", "step", "constant"), default="cosine")
    how.add_argument("--warmup", type=int, default=200, help="steps of linear warm-up (default: %(default)s)")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--bfloat16", action="store_true", help="forward and backward in bfloat16, weights in float32")
    how.add_argument("--cuda", "-c", action="store_true")
    how.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    out = p.add_argument_group("output")
    out.add_argument("--out", required=True, help="checkpoint to write (.safetensors); the JSON lies beside it")
    out.add_argument("--save_epoch", type=int, default=1, help="write the checkpoint every so many epochs, and last")
    return p


def run(args: argparse.Namespace, command: Sequence[str]) -> None:
    import torch

    from dataloader import load
    from models import build, save_state
    from training import Recipe, initialize, measure, train

    if args.epochs < 1 or args.batch_size < 1 or args.save_epoch < 1:
        raise BadUsage("--epochs, --batch_size and --save_epoch have to be at least 1")
    if args.cuda and not torch.cuda.is_available():
        raise BadUsage("--cuda: no CUDA device here: leave the flag out to use the CPU")
    if not args.out.endswith(".safetensors"):
        raise BadUsage(f"--out {args.out}: the name has to end in .safetensors")
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load(args.dataset, "train", datapath=args.datapath)
    test = load(args.dataset, "test", datapath=args.datapath)
    net = build(args.model, data.inputs.shape[1:], data.classes)
    initialize(net, args.seed)
    net.to("cuda" if args.cuda else "cpu")
    recipe = Recipe(args.epochs, args.batch_size, args.lr, args.momentum, args.weight_decay, args.schedule,
                    args.warmup, args.seed, args.bfloat16)  # fmt: skip
    started, last, curve = time.monotonic(), [time.monotonic()], []

    def on_step(epoch: int, step: int, loss: float) -> None:
        if time.monotonic() - last[0] >= 10:
            last[0] = time.monotonic()
            print(f"epoch {epoch + 1}/{args.epochs} step {step} loss {loss:.4f}", flush=True)

    def on_epoch(epoch: int) -> None:
        loss, accuracy = measure(net, test)
        curve.append({"epoch": epoch, "test_loss": loss, "test_acc": accuracy})
        print(f"epoch {epoch}/{args.epochs}: test loss {loss:.4f}, accuracy {accuracy:.2f} %, "
              f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
        if epoch % args.save_epoch == 0 or epoch == args.epochs:
            save_state(args.out, net)

    train(net, data, recipe, on_step, on_epoch)
    train_loss, train_accuracy = measure(net, data)
    about = {
        "command": shlex.join(["python", *command]),
        "model": args.model,
        "dataset": args.dataset,
        "data_sha256": {"train": data.digest, "test": test.digest},
        "train_loss": train_loss,
        "train_acc": train_accuracy,
        **{key: curve[-1][key] for key in ("test_loss", "test_acc")},
        "recipe": asdict(recipe),
        "epochs": curve,
        "seconds": round(time.monotonic() - started),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    Path(args.out).with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{args.out}: train accuracy {train_accuracy:.2f} %, test accuracy {about['test_acc']:.2f} %")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    return exit_code(lambda: run(args, ["train.py", *command]))


if __name__ == "__main__":
    sys.exit(main())
