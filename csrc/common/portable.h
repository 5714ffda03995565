// Shared by CPU and CUDA kernels, free of torch: what differs between the two compilers, and arithmetic both need.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define DFOPS_HD __host__ __device__ __forceinline__
#else
#define DFOPS_HD inline
#endif

// One clone of a CPU loop per instruction set, chosen when the library is loaded. Only GCC on x86-64 Linux has it for
// templates; DFOPS_NO_CLONES is for sanitizers, which cannot start a process that holds such functions.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__) && !defined(__CUDACC__) && \
    !defined(DFOPS_NO_CLONES)
#define DFOPS_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define DFOPS_CLONES
#endif

// Parts of a CPU loop in functions of their own: inlined, or they would not follow the clone they are called from.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define DFOPS_INLINE inline __attribute__((always_inline))
#else
#define DFOPS_INLINE inline
#endif

namespace dfops {

// Half and bfloat16 accumulate in float.
template <class scalar_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class scalar_t>
using acc_type = typename Accumulate<scalar_t>::type;

// Several values moved by one load or store.
template <class scalar_t, int kSize>
struct alignas(sizeof(scalar_t) * kSize) Pack {
  scalar_t values[kSize];
};

DFOPS_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
DFOPS_HD int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// Bounded grid of a grid-stride loop. The bound is a constant, so that reductions over blocks have one order anywhere.
inline int64_t grid_for(int64_t work, int threads, int64_t most = 2048) { return min64(ceil_div(work, threads), most); }

DFOPS_HD double exp_of_nonpositive(double x) { return exp(x); }

// exp(x) for x <= 0, 1 ulp, without a call or a branch, so that CPU loops around it vectorise. NaN stays NaN.
DFOPS_HD float exp_of_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 leaves the nearest integer in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
#endif
}

// sigmoid(x) - 1/2
template <class acc_t>
DFOPS_HD acc_t centred_sigmoid(acc_t x) {
  const acc_t e = exp_of_nonpositive(x < 0 ? x : -x);
  const acc_t half = acc_t(0.5) * (1 - e) / (1 + e);
  return x < 0 ? -half : half;
}

}  // namespace dfops
