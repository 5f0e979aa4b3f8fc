"""Batches of a Hessian-vector product: their size, and the number that are computed in parallel."""

import torch

from lossatlas.evaluation.parallel_batches import default_parallel_batches

LARGEST, SMALLEST = {"cpu": 128, "cuda": 256}, 32  # samples in a batch
IN_FLIGHT = 512  # samples whose activations are in memory at once, in parallel batches


def usual_batch_size(samples: int, device: torch.device | str, threads: int) -> int:
    """Choose a batch size: the largest one that leaves a batch for each thread of the CPU, within fixed limits.

    Args:
        samples: Number of samples.
        device: The device; the threads do not matter on another one than the CPU.
        threads: Number of threads.
    """
    kind = torch.device(device).type
    return max(SMALLEST, min(LARGEST[kind], -(-samples // (threads if kind == "cpu" else 1))))


def parallel_batch_count(batches: int, batch_size: int, threads: int) -> int:
    """Choose how many batches are computed in parallel: one for each thread, unless too many threads would be idle.

    At most IN_FLIGHT samples are in memory at once. Where more than a share `parallel_batches.MAX_IDLE` of the threads
    would be idle on average, batches are computed one after the other, each by all threads.

    Args:
        batches: Number of batches of a product.
        batch_size: Samples in a batch.
        threads: Number of threads; 1 on another device than the CPU.
    """
    return default_parallel_batches(batches, max(1, min(threads, IN_FLIGHT // batch_size)))
