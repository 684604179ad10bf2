"""Work done side by side, each process on cores of its own."""

import concurrent.futures
import multiprocessing
import os
import threading


def side_by_side(work, items, jobs):
    """Calls `work` on each item; items are handed out one by one, as processes become free.

    Args:
      work: a function that can be pickled.
      items: as many calls.
      jobs: processes; they share the cores of this one. They end when this one does, however.

    Yields:
      (item, result, None), or (item, None, exception), in the order they are done.
    """
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    shares = context.SimpleQueue()
    for i in range(jobs):
        shares.put(set(cores[i::jobs] or cores))
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _begin, (shares,)) as executor:
        waiting = {executor.submit(work, item): item for item in items}
        try:
            for future in concurrent.futures.as_completed(waiting):
                error = future.exception()
                yield waiting[future], None if error else future.result(), error
        finally:  # whoever asks for no more wants no more done
            executor.shutdown(wait=False, cancel_futures=True)


def _begin(shares):
    """Takes a share of the cores, before JAX counts them, and waits for the parent's end."""
    os.sched_setaffinity(0, shares.get())

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
