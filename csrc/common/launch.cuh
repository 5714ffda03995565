// Launching a block-level kernel body on the current stream, and the block it sees on the device.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <limits>

#include "common/blocks.h"
#include "common/portable.h"
#include "common/tensor.h"

namespace dfops {

// The device side of a kernel body (tests run the same bodies on a host block). A body works in phases separated by
// barriers; what a thread keeps from one phase to the next is a `local`, what threads share is a `shared` array.
class DeviceBlock {
 public:
  __device__ explicit DeviceBlock(char* shared) : shared_(shared) {}

  __device__ int64_t index() const { return blockIdx.x; }
  __device__ int64_t count() const { return gridDim.x; }
  __device__ int threads() const { return int(blockDim.x); }

  // Runs `phase(thread)` for every thread, then a barrier.
  template <class Phase>
  __device__ void each(Phase phase) {
    phase(int(threadIdx.x));
    __syncthreads();
  }

  template <class T>
  struct Local {
    T value;
    __device__ T& operator[](int) { return value; }
  };
  template <class T>
  __device__ Local<T> local() const {
    return {};
  }

  // Uninitialised array of n values; the launch passes the bytes of all of them (16 of alignment each) in all.
  template <class T>
  __device__ T* shared(int64_t n) {
    char* begin = shared_;
    shared_ += (n * int64_t(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(begin);
  }

  // Sum over the block in an order that depends on nothing but the number of threads; every thread gets it.
  template <class T>
  __device__ T sum(Local<T>& value) {
    __shared__ T warps[32];
    T total = value.value;
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    __syncthreads();  // an earlier sum may still be read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = total;
    __syncthreads();
    total = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += warps[warp];
    return total;
  }

  // The largest of the block; every thread gets it. For integers.
  template <class T>
  __device__ T max(Local<T>& value) {
    __shared__ T warps[32];
    T most = value.value;
    for (int step = 16; step > 0; step /= 2) {
      const T other = __shfl_xor_sync(0xffffffffu, most, step);
      most = other > most ? other : most;
    }
    __syncthreads();  // an earlier maximum may still be read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = most;
    __syncthreads();
    most = warps[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) most = warps[warp] > most ? warps[warp] : most;
    return most;
  }

  // Replaces each thread's value by the sum over the threads before it; returns the sum over all. For integers.
  template <class T>
  __device__ T scan(Local<T>& value) {
    __shared__ T warps[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T sum = value.value;
    for (int step = 1; step < 32; step *= 2) {
      const T before = __shfl_up_sync(0xffffffffu, sum, step);
      if (lane >= step) sum += before;
    }
    __syncthreads();  // an earlier scan may still be read
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    T before = 0, total = 0;
    for (int other = 0; other < int(blockDim.x) / 32; ++other) {
      before += other < warp ? warps[other] : T(0);
      total += warps[other];
    }
    value.value = before + sum - value.value;
    return total;
  }

  // Atomic, on a shared array of integers.
  __device__ void add(int* to, int value) const { atomicAdd(to, value); }

 private:
  char* shared_;
};

template <class Body>
__global__ void block_kernel(Body body) {
  extern __shared__ __align__(16) char shared_memory[];
  DeviceBlock block(shared_memory);
  body(block);
}

// `body` is a copyable functor with `template <class Block> DFOPS_HD void operator()(Block&) const`; `threads` is a
// multiple of 32.
template <class Body>
void launch(const Tensor& on, int64_t blocks, int threads, int64_t shared_bytes, const Body& body) {
  if (blocks == 0) return;
  STD_TORCH_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "a launch takes 2^31 - 1 blocks, this one needs ",
                  blocks, ": split the batch");
  STD_TORCH_CHECK(shared_bytes <= kMostSharedBytes, "a block takes ", kMostSharedBytes,
                  " bytes of shared memory, this one needs ", shared_bytes);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream));
  if (shared_bytes > 48 * 1024)
    STD_CUDA_CHECK(
        cudaFuncSetAttribute(block_kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
  block_kernel<<<unsigned(blocks), threads, size_t(shared_bytes), static_cast<cudaStream_t>(stream)>>>(body);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace dfops
