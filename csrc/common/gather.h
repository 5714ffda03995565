// Weighted reads of other positions, for every position of an (H, W) map: built once, applied to all of its channels on
// the CPU. A gradient applies the transpose.
#pragma once

#include <utility>
#include <vector>

#include "common/portable.h"

namespace dfops {

// Reads [begin[i], begin[i + 1]) of position i: the positions it takes from, and with what weight.
template <class acc_t>
struct Gather {
  std::vector<int64_t> begin, from;
  std::vector<acc_t> weight;

  // `reads(row, col, add)` calls add(position, weight) for everything an output position reads.
  template <class F>
  void collect(int64_t height, int64_t width, const F& reads) {
    begin.assign(1, 0);
    from.clear();
    weight.clear();
    for (int64_t row = 0; row < height; ++row)
      for (int64_t col = 0; col < width; ++col) {
        reads(row, col, [&](int64_t position, acc_t value) {
          from.push_back(position);
          weight.push_back(value);
        });
        begin.push_back(int64_t(from.size()));
      }
  }

  int64_t positions() const { return int64_t(begin.size()) - 1; }

  // For every position instead the positions that read it, in order.
  void transpose() {
    Gather other{std::vector<int64_t>(begin.size()), std::vector<int64_t>(from.size()),
                 std::vector<acc_t>(from.size())};
    for (const int64_t i : from) ++other.begin[i + 1];
    for (int64_t i = 0; i < positions(); ++i) other.begin[i + 1] += other.begin[i];
    std::vector<int64_t> next(other.begin.begin(), other.begin.end() - 1);
    for (int64_t i = 0; i < positions(); ++i)
      for (int64_t j = begin[i]; j < begin[i + 1]; ++j) {
        other.from[next[from[j]]] = i;
        other.weight[next[from[j]]++] = weight[j];
      }
    *this = std::move(other);
  }

  // sum = weighted values of kCount neighbouring channels at the positions that position i reads, `step` apart.
  template <int kCount, class scalar_t>
  DFOPS_INLINE void combine(acc_t* sum, const scalar_t* in, int64_t step, int64_t i) const {
    acc_t total[kCount] = {};
    for (int64_t j = begin[i]; j < begin[i + 1]; ++j) {
      const scalar_t* values = in + from[j] * step;
      const acc_t by = weight[j];
#pragma omp simd
      for (int k = 0; k < kCount; ++k) total[k] += by * acc_t(values[k]);
    }
    for (int k = 0; k < kCount; ++k) sum[k] = total[k];
  }
};

constexpr int kLanes = 16;    // channels handled together; of contiguous maps side by side in a buffer
constexpr int64_t kRun = 64;  // positions transposed at a time: a buffer of the first-level cache

// Four rows of n values, `step` apart, one value of each in turn; and back.
template <class acc_t, class scalar_t>
DFOPS_INLINE void interleave(acc_t* to, const scalar_t* from, int64_t step, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    to[4 * i] = acc_t(from[i]);
    to[4 * i + 1] = acc_t(from[i + step]);
    to[4 * i + 2] = acc_t(from[i + 2 * step]);
    to[4 * i + 3] = acc_t(from[i + 3 * step]);
  }
}

template <class scalar_t, class acc_t>
DFOPS_INLINE void separate(scalar_t* to, const acc_t* from, int64_t step, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    to[i] = scalar_t(from[4 * i]);
    to[i + step] = scalar_t(from[4 * i + 1]);
    to[i + 2 * step] = scalar_t(from[4 * i + 2]);
    to[i + 3 * step] = scalar_t(from[4 * i + 3]);
  }
}

// to (n, kLanes) = the transpose of kLanes rows of n values, of which only the first `rows` exist. Two rounds of
// interleaving: the first puts rows k, k + 4, k + 8, k + 12 together. n <= kRun.
template <class acc_t, class scalar_t>
DFOPS_INLINE void to_lanes(acc_t* to, const scalar_t* from, int64_t step, int64_t rows, int64_t n) {
  scalar_t padded[kLanes * kRun];
  acc_t half_way[kLanes * kRun];
  if (rows < kLanes) {
    for (int64_t k = 0; k < kLanes; ++k)
      for (int64_t i = 0; i < n; ++i) padded[k * n + i] = k < rows ? from[k * step + i] : scalar_t(0);
    from = padded;
    step = n;
  }
  for (int k = 0; k < 4; ++k) interleave(half_way + 4 * k * n, from + k * step, 4 * step, n);
  interleave(to, half_way, 4 * n, 4 * n);
}

template <class scalar_t, class acc_t>
DFOPS_INLINE void from_lanes(scalar_t* to, const acc_t* from, int64_t step, int64_t rows, int64_t n) {
  scalar_t padded[kLanes * kRun];
  acc_t half_way[kLanes * kRun];
  separate(half_way, from, 4 * n, 4 * n);
  scalar_t* target = rows < kLanes ? padded : to;
  const int64_t target_step = rows < kLanes ? n : step;
  for (int k = 0; k < 4; ++k) separate(target + k * target_step, half_way + 4 * k * n, 4 * target_step, n);
  for (int64_t k = 0; k < rows && rows < kLanes; ++k)
    for (int64_t i = 0; i < n; ++i) to[k * step + i] = padded[k * n + i];
}

// Maps contiguous: out = what a gather makes of the planes of some channels.
template <class out_t, class scalar_t>
DFOPS_CLONES void gather_planes(out_t* out, const scalar_t* in, int64_t channels,
                                const Gather<acc_type<scalar_t>>& gather) {
  using acc_t = acc_type<scalar_t>;
  const int64_t positions = gather.positions();
  std::vector<acc_t> lanes(positions * kLanes);
  acc_t sums[kLanes * kRun];
  for (int64_t c = 0; c < channels; c += kLanes, in += kLanes * positions, out += kLanes * positions) {
    const int64_t rows = min64(kLanes, channels - c);
    for (int64_t first = 0; first < positions; first += kRun)
      to_lanes(lanes.data() + first * kLanes, in + first, positions, rows, min64(kRun, positions - first));
    for (int64_t first = 0; first < positions; first += kRun) {
      const int64_t n = min64(kRun, positions - first);
      for (int64_t i = 0; i < n; ++i)
        gather.template combine<kLanes>(sums + i * kLanes, lanes.data(), kLanes, first + i);
      from_lanes(out + first, sums, positions, rows, n);
    }
  }
}

// Channels fastest: out = what a gather makes of some channels at positions [begin, end), from `in`, the first position
// of the map. Positions are steps apart.
template <class out_t, class scalar_t>
DFOPS_CLONES void gather_positions(out_t* out, int64_t out_step, const scalar_t* in, int64_t in_step, int64_t channels,
                                   const Gather<acc_type<scalar_t>>& gather, int64_t begin, int64_t end) {
  acc_type<scalar_t> sums[kLanes];
  for (int64_t i = begin; i < end; ++i, out += out_step) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      gather.template combine<kLanes>(sums, in + c, in_step, i);
      for (int k = 0; k < kLanes; ++k) out[c + k] = out_t(sums[k]);
    }
    for (; c < channels; ++c) {
      gather.template combine<1>(sums, in + c, in_step, i);
      out[c] = out_t(sums[0]);
    }
  }
}

}  // namespace dfops
