// Stands in for csrc/common/launch.cuh where the CUDA sources are compiled as plain C++: their kernels run on the CPU, and
// the operators are registered for CPU tensors.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <type_traits>

#include "common/blocks.h"
#include "common/portable.h"
#include "common/tensor.h"
#include "host_block.h"

namespace torch::stable::accelerator {
struct NoDeviceGuard {
  explicit NoDeviceGuard(int64_t) {}
};
}  // namespace torch::stable::accelerator
#define DeviceGuard NoDeviceGuard
#define CUDA CPU

namespace dfops {

constexpr int64_t kGridLimit = 0x7fffffff, kThreadLimit = 1024;

template <class Body>
void launch(const Tensor&, int64_t blocks, int threads, int64_t shared_bytes, const Body& body) {
  static_assert(std::is_trivially_copyable_v<Body> && sizeof(Body) <= 4096, "a kernel's arguments are copied bytes");
  STD_TORCH_CHECK(blocks >= 0 && blocks <= kGridLimit, "emulated launch: a grid of ", blocks, " blocks");
  STD_TORCH_CHECK(threads > 0 && threads <= kThreadLimit && threads % 32 == 0, "emulated launch: ", threads, " threads");
  STD_TORCH_CHECK(shared_bytes >= 0 && shared_bytes <= kMostSharedBytes, "emulated launch: ", shared_bytes,
                  " bytes of shared memory");
  static thread_local std::mt19937 random(0);
  launch_on_host(blocks, threads, shared_bytes, random, body);
}

}  // namespace dfops
