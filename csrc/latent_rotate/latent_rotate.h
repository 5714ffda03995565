// Rotation of every (H, W) map about its centre: which pixels an output position reads, in all modes and paddings of
// grid_sample, and the loops of the CPU. Each map has one list of entries for all of its channels.
#pragma once

#include <algorithm>
#include <vector>

#include "common/rotation.h"

namespace dfops::rotate {

enum class Mode : int64_t { kBilinear, kNearest };
enum class Padding : int64_t { kZeros, kBorder, kReflection };

// What the entries of a position are: the pixels it reads with their weights, the same with the derivatives of the
// weights in the angle, or the positions that read it.
enum class What { kWeights, kSlopes, kReaders };

struct Maps {
  int64_t count, channels, height, width;
  bool channels_last;

  DFOPS_HD int64_t positions() const { return height * width; }
  DFOPS_HD int64_t size() const { return channels * positions(); }
  // Distances in memory.
  DFOPS_HD int64_t position_step() const { return channels_last ? channels : 1; }
  DFOPS_HD int64_t channel_step() const { return channels_last ? 1 : positions(); }
};

template <class acc_t>
struct Sampler {
  Rotation<acc_t> rotation;
  Mode mode;
  Padding padding;

  DFOPS_HD Sampler(const Maps& maps, acc_t angle, Mode m, Padding p)
      : rotation(angle, maps.height, maps.width), mode(m), padding(p) {}

  // Calls f(offset, weight, slope) for the pixels that an output position reads.
  template <class F>
  DFOPS_HD void taps(int64_t row, int64_t col, const F& f) const {
    const auto at = rotation.source(row, col);
    const acc_t height = acc_t(rotation.height), width = acc_t(rotation.width);
    const Folded r = fold(at.row, height), c = fold(at.col, width);
    // an angle that is no number: nowhere is outside, so the result is NaN as well, as in grid_sample
    if (usual() && at.row != at.row) return f(0, at.row, at.row);
    if (mode == Mode::kNearest) {
      const acc_t near_row = nearbyint(r.value), near_col = nearbyint(c.value);
      if (near_row >= 0 && height > near_row && near_col >= 0 && width > near_col)
        f(int64_t(near_row) * rotation.width + int64_t(near_col), acc_t(1), acc_t(0));
      return;
    }
    // turning moves a point at right angles to its place, both in normalised coordinates
    const acc_t down = r.slope * height / 2 * ((2 * at.col + 1) / width - 1),
                right = -c.slope * width / 2 * ((2 * at.row + 1) / height - 1);
    rotation.around({r.value, c.value}, [&](int k, int64_t offset, acc_t by_row, acc_t by_col) {
      f(offset, by_row * by_col, (k / 2 ? down : -down) * by_col + (k % 2 ? right : -right) * by_row);
    });
  }

  // Calls f(offset, weight) for every output position that reads a pixel, in row order. Other modes than the usual one
  // try every position.
  template <class F>
  DFOPS_HD void readers(int64_t row, int64_t col, const F& f) const {
    if (usual() && rotation.cosine == rotation.cosine) return rotation.readers(row, col, f);
    const int64_t pixel = row * rotation.width + col;
    for (int64_t r = 0; r < rotation.height; ++r)
      for (int64_t c = 0; c < rotation.width; ++c)
        taps(r, c, [&](int64_t offset, acc_t weight, acc_t) {
          if (offset == pixel) f(r * rotation.width + c, weight);
        });
  }

 private:
  // What LSDA uses.
  DFOPS_HD bool usual() const { return mode == Mode::kBilinear && padding == Padding::kZeros; }

  struct Folded {
    acc_t value, slope;
  };

  // A coordinate brought into the map by the padding, and its derivative; as grid_sample has it, NaN becomes 0.
  DFOPS_HD Folded fold(acc_t at, acc_t size) const {
    if (padding == Padding::kZeros) return {at, 1};
    acc_t slope = 1;
    if (padding == Padding::kReflection) {  // about the outer edges of the first and of the last pixel
      const acc_t beyond = fabs(at + acc_t(0.5)), flips = floor(beyond / size), rest = fmod(beyond, size);
      const bool odd = fmod(flips, acc_t(2)) == 1;
      slope = (at + acc_t(0.5) < 0) != odd ? -1 : 1;
      at = (odd ? size - rest : rest) - acc_t(0.5);
    }
    if (!(at > 0)) return {0, 0};
    return at < size - 1 ? Folded{at, slope} : Folded{size - 1, 0};
  }
};

// ---------------------------------------------------------------------------------------------------------------- CPU
constexpr int kLanes = 16;     // channels handled together; of contiguous maps side by side in a buffer
constexpr int64_t kRun = 64;  // positions transposed at a time: a buffer of the first-level cache

// Entries [begin[i], begin[i + 1]) of position i: the positions it takes from, and with what weight.
template <class acc_t>
struct Entries {
  std::vector<int64_t> begin, from;
  std::vector<acc_t> weight;

  void collect(const Maps& maps, const Sampler<acc_t>& sampler, What what) {
    begin.assign(1, 0);
    from.clear();
    weight.clear();
    for (int64_t row = 0; row < maps.height; ++row)
      for (int64_t col = 0; col < maps.width; ++col) {
        sampler.taps(row, col, [&](int64_t offset, acc_t value, acc_t slope) {
          from.push_back(offset);
          weight.push_back(what == What::kSlopes ? slope : value);
        });
        begin.push_back(int64_t(from.size()));
      }
    if (what == What::kReaders) transpose(maps.positions());
  }

 private:
  void transpose(int64_t positions) {
    Entries<acc_t> other{std::vector<int64_t>(positions + 1), std::vector<int64_t>(from.size()),
                         std::vector<acc_t>(from.size())};
    for (const int64_t i : from) ++other.begin[i + 1];
    for (int64_t i = 0; i < positions; ++i) other.begin[i + 1] += other.begin[i];
    std::vector<int64_t> next(other.begin.begin(), other.begin.end() - 1);
    for (int64_t i = 0; i < positions; ++i)
      for (int64_t j = begin[i]; j < begin[i + 1]; ++j) {
        other.from[next[from[j]]] = i;
        other.weight[next[from[j]]++] = weight[j];
      }
    *this = std::move(other);
  }
};

// sum = weighted values of kCount neighbouring channels at the positions that position i takes from.
template <int kCount, class scalar_t, class acc_t>
DFOPS_INLINE void combine(acc_t* sum, const scalar_t* in, int64_t step, const Entries<acc_t>& entries, int64_t i) {
  acc_t total[kCount] = {};
  for (int64_t j = entries.begin[i]; j < entries.begin[i + 1]; ++j) {
    const scalar_t* values = in + entries.from[j] * step;
    const acc_t weight = entries.weight[j];
#pragma omp simd
    for (int k = 0; k < kCount; ++k) total[k] += weight * acc_t(values[k]);
  }
  for (int k = 0; k < kCount; ++k) sum[k] = total[k];
}

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

// Units of work: a group of channels of one map. They depend on the sizes alone.
inline int64_t groups(const Maps& maps) { return ceil_div(maps.channels, kLanes); }

template <class scalar_t>
DFOPS_INLINE void apply_contiguous(scalar_t* out, const scalar_t* in, const Maps& maps,
                                   const Entries<acc_type<scalar_t>>& entries,
                                   std::vector<acc_type<scalar_t>>& lanes, int64_t rows) {
  acc_type<scalar_t> sums[kLanes * kRun];
  const int64_t positions = maps.positions();
  for (int64_t first = 0; first < positions; first += kRun)
    to_lanes(lanes.data() + first * kLanes, in + first, positions, rows, min64(kRun, positions - first));
  for (int64_t first = 0; first < positions; first += kRun) {
    const int64_t n = min64(kRun, positions - first);
    for (int64_t i = 0; i < n; ++i) combine<kLanes>(sums + i * kLanes, lanes.data(), kLanes, entries, first + i);
    from_lanes(out + first, sums, positions, rows, n);
  }
}

template <class scalar_t>
DFOPS_INLINE void apply_channels_last(scalar_t* out, const scalar_t* in, const Maps& maps,
                                      const Entries<acc_type<scalar_t>>& entries, int64_t begin, int64_t end) {
  acc_type<scalar_t> sums[kLanes];
  for (int64_t i = 0; i < maps.positions(); ++i) {
    scalar_t* to = out + i * maps.channels;
    int64_t c = begin;
    for (; c + kLanes <= end; c += kLanes) {
      combine<kLanes>(sums, in + c, maps.channels, entries, i);
      for (int k = 0; k < kLanes; ++k) to[c + k] = scalar_t(sums[k]);
    }
    for (; c < end; ++c) {
      combine<1>(sums, in + c, maps.channels, entries, i);
      to[c] = scalar_t(sums[0]);
    }
  }
}

// Units [begin, end) of out, taken from `in` as `what` (not kSlopes) says.
template <class scalar_t>
DFOPS_CLONES void apply_range(scalar_t* out, const scalar_t* in, const acc_type<scalar_t>* angle, const Maps& maps,
                              Mode mode, Padding padding, What what, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  Entries<acc_t> entries;
  std::vector<acc_t> lanes(maps.channels_last ? 0 : maps.positions() * kLanes);
  const int64_t per_map = groups(maps);
  for (int64_t unit = begin; unit < end;) {
    const int64_t map = unit / per_map, until = min64(end, (map + 1) * per_map);
    entries.collect(maps, Sampler<acc_t>(maps, angle[map], mode, padding), what);
    scalar_t* to = out + map * maps.size();
    const scalar_t* from = in + map * maps.size();
    const int64_t first = (unit - map * per_map) * kLanes;
    const int64_t last = min64(maps.channels, (until - map * per_map) * kLanes);
    if (maps.channels_last) {
      apply_channels_last(to, from, maps, entries, first, last);
    } else {
      for (int64_t c = first; c < last; c += kLanes)
        apply_contiguous(to + c * maps.positions(), from + c * maps.positions(), maps, entries, lanes,
                         min64(kLanes, last - c));
    }
    unit = until;
  }
}

// partial[unit] of units [begin, end): their shares of the gradient for the angle of their map.
template <class scalar_t>
DFOPS_CLONES void slope_range(acc_type<scalar_t>* partial, const scalar_t* grad, const scalar_t* x,
                              const acc_type<scalar_t>* angle, const Maps& maps, Mode mode, Padding padding,
                              int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  Entries<acc_t> entries;
  const int64_t per_map = groups(maps), positions = maps.positions();
  std::vector<acc_t> lanes(maps.channels_last ? 0 : positions * kLanes);
  acc_t sums[kLanes], grads[kLanes * kRun];
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t map = unit / per_map, c = unit % per_map * kLanes;
    const int64_t last = min64(maps.channels, c + kLanes);
    if (unit == begin || unit % per_map == 0)
      entries.collect(maps, Sampler<acc_t>(maps, angle[map], mode, padding), What::kSlopes);
    acc_t shares[kLanes] = {};
    if (maps.channels_last) {
      const scalar_t *values = x + map * maps.size(), *g = grad + map * maps.size();
      for (int64_t i = 0; i < positions; ++i) {
        int64_t k = c;
        for (; k + kLanes <= last; k += kLanes) {
          combine<kLanes>(sums, values + k, maps.channels, entries, i);
          for (int l = 0; l < kLanes; ++l) shares[l] += sums[l] * acc_t(g[i * maps.channels + k + l]);
        }
        for (; k < last; ++k) {
          combine<1>(sums, values + k, maps.channels, entries, i);
          shares[0] += sums[0] * acc_t(g[i * maps.channels + k]);
        }
      }
    } else {
      const int64_t at = map * maps.size() + c * positions;
      for (int64_t first = 0; first < positions; first += kRun)
        to_lanes(lanes.data() + first * kLanes, x + at + first, positions, last - c, min64(kRun, positions - first));
      for (int64_t first = 0; first < positions; first += kRun) {
        const int64_t n = min64(kRun, positions - first);
        to_lanes(grads, grad + at + first, positions, last - c, n);
        for (int64_t i = 0; i < n; ++i) {
          combine<kLanes>(sums, lanes.data(), kLanes, entries, first + i);
          for (int l = 0; l < kLanes; ++l) shares[l] += sums[l] * grads[i * kLanes + l];
        }
      }
    }
    partial[unit] = 0;
    for (const acc_t share : shares) partial[unit] += share;
  }
}

}  // namespace dfops::rotate
