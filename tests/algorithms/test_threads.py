import torch
from threadpoolctl import threadpool_info

from rllib_lpdm.algorithms import threads


def test_numpy_and_torch_use_one_thread_within_and_their_own_number_after():
    threads._controller.cache_clear()  # a library that was loaded later is none of its business
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads.single_threaded():
            assert torch.get_num_threads() == 1
            assert {library["num_threads"] for library in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
