"""What a blocked task was at when it came to wait: functions further out on its stack."""

from __future__ import annotations

from faultkit.causes.view import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.causes import Explanation

# Function -> (what the task is doing, what that means for whoever waits for it).
_DOING = {
    **dict.fromkeys(("vfs_coredump", "do_coredump"), "while its core is being dumped"),
    **dict.fromkeys(("begin_new_exec", "flush_old_exec"), "during exec"),
    "do_exit": "while exiting: it can't be killed any more, it is dying",
    **dict.fromkeys(("freeze_super", "freeze_bdev", "bdev_freeze"), "while freezing a file system"),
    **dict.fromkeys(
        ("generic_shutdown_super", "deactivate_locked_super", "cleanup_mnt"),
        "while unmounting",
    ),
    **dict.fromkeys(
        ("try_to_free_pages", "do_try_to_free_pages", "__perform_reclaim"),
        "while reclaiming memory for an allocation",
    ),
    **dict.fromkeys(("balance_pgdat",), "while reclaiming memory (kswapd)"),
    **dict.fromkeys(
        ("try_to_free_mem_cgroup_pages",), "while reclaiming memory of its control group"
    ),
    **dict.fromkeys(
        ("loop_process_work", "loop_queue_work", "loop_kthread_worker_fn"),
        "as the worker of a loop device",
    ),
    "nfsd_dispatch": "while serving an NFS client (nfsd)",
    "ksmbd_conn_handler_loop": "while serving an SMB client (ksmbd)",
    **dict.fromkeys(("wb_workfn", "wb_writeback"), "while writing dirty pages back (flusher)"),
    **dict.fromkeys(("do_swap_page",), "while swapping a page in"),
    "kjournald2": "as the journal's own thread",
    "xfsaild": "as the log's own thread",
    "transaction_kthread": "as the transactions' own thread",
    "io_wq_worker": "as a worker of io_uring",
    "oom_reap_task": "as the OOM reaper",
    "suspend_devices_and_enter": "while the machine suspends",
    "device_shutdown": "while the machine shuts down",
    "do_init_module": "while a module is being loaded",
    "device_del": "while a device is being removed",
    "del_gendisk": "while a disk is being removed",
}


def in_context(explanation: Explanation, blocked: Blocked) -> Explanation:
    """The explanation with what the task was at."""
    doing = dict.fromkeys(_DOING[name] for name in blocked.functions if name in _DOING)
    item = work_item(blocked.functions)
    if item is not None:
        doing[f"in the work item {item}()"] = None
    new = [words for words in doing if words.split()[-1] not in explanation.text]
    if not new:
        return explanation
    return explanation._replace(text=f"{explanation.text}; {', '.join(new)}")


def work_item(functions: tuple[str, ...]) -> str | None:
    """The function of the work item that a kworker runs."""
    if "process_one_work" not in functions:
        return None
    at = functions.index("process_one_work")
    return functions[at - 1] if at else None
