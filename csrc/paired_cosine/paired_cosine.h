// out[g][p] = sum_k signs[k] (1 - a^ . b^_k) with a^ = a / (|a| + eps) and b^_k = b_k / (|b_k| + eps), where a and b_k
// are vectors of channels: those of the anchor and of the K others of group g at position p.
//
// The forward keeps |a|, |b_k| and a^ . b^_k; with them a gradient is, channel by channel, a sum of the inputs times
// factors of the position.
#pragma once

#include <algorithm>
#include <vector>

#include "common/portable.h"

namespace dfops::cosine {

struct Sizes {
  int64_t groups, others, channels, positions;
  bool channels_fastest;

  DFOPS_HD int64_t channel_step() const { return channels_fastest ? 1 : positions; }
  DFOPS_HD int64_t position_step() const { return channels_fastest ? channels : 1; }
};

// Where the maps (C, P) begin in memory.
template <class scalar_t>
struct Maps {
  scalar_t* data;  // null for gradients that are not needed
  int64_t group_step, map_step;

  DFOPS_HD scalar_t* of(int64_t group, int64_t map = 0) const { return data + group * group_step + map * map_step; }
};

// What the forward gives: out (G, P), norms (G, K + 1, P), that of the anchor first, and cosines (G, K, P).
template <class acc_t>
struct Results {
  acc_t *out, *norms, *cosines;
};

template <class acc_t>
DFOPS_HD acc_t cosine_at(acc_t dot, acc_t anchor_norm, acc_t norm, acc_t eps) {
  return dot / (anchor_norm + eps) / (norm + eps);
}

// The gradient g of out at a position gives d a = own a + sum_k cross_k b_k and d b_k = cross_k a + own_k b_k.
template <class acc_t>
DFOPS_HD acc_t cross_factor(acc_t grad, acc_t sign, acc_t anchor_norm, acc_t norm, acc_t eps) {
  return -grad * sign / (anchor_norm + eps) / (norm + eps);
}

// `cosine` is sign * cosine; for the anchor, their sum.
template <class acc_t>
DFOPS_HD acc_t own_factor(acc_t grad, acc_t cosine, acc_t norm, acc_t eps) {
  return norm == 0 ? acc_t(0) : grad * cosine / norm / (norm + eps);
}

// ---------------------------------------------------------------------------------------------------------------- CPU
// A tile is some neighbouring positions of a group.
struct Tiles {
  int64_t positions, per_group, count;

  explicit Tiles(const Sizes& s, int64_t most = 0)
      : positions(most > 0 ? most : s.channels_fastest ? 16 : 128),
        per_group(ceil_div(s.positions, positions)),
        count(s.groups * per_group) {}

  struct Tile {
    int64_t group, first, count;
  };
  Tile at(const Sizes& s, int64_t index) const {
    const int64_t first = index % per_group * positions;
    return {index / per_group, first, min64(positions, s.positions - first)};
  }
};

// Positions fastest: kRows channels of n positions are added to squares (K + 1, step) and dots (K, step).
template <int kRows, class scalar_t>
DFOPS_INLINE void add_channels(acc_type<scalar_t>* squares, acc_type<scalar_t>* dots, const scalar_t* a,
                               const scalar_t* b, int64_t map_step, int64_t others, int64_t step, int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t square = 0;
    for (int64_t r = 0; r < kRows; ++r) square += acc_t(a[r * step + i]) * acc_t(a[r * step + i]);
    squares[i] += square;
  }
  for (int64_t k = 0; k < others; ++k, b += map_step) {
    squares += step;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      acc_t square = 0, dot = 0;
      for (int64_t r = 0; r < kRows; ++r) {
        const acc_t y = acc_t(b[r * step + i]);
        square += y * y;
        dot += acc_t(a[r * step + i]) * y;
      }
      squares[i] += square;
      dots[k * step + i] += dot;
    }
  }
}

// Channels fastest: the sums of one position; `step` lies between those of two maps.
template <class scalar_t>
DFOPS_INLINE void sum_channels(acc_type<scalar_t>* squares, acc_type<scalar_t>* dots, const scalar_t* a,
                               const scalar_t* b, int64_t map_step, int64_t others, int64_t step, int64_t channels) {
  using acc_t = acc_type<scalar_t>;
  acc_t own = 0;
#pragma omp simd reduction(+ : own)
  for (int64_t c = 0; c < channels; ++c) own += acc_t(a[c]) * acc_t(a[c]);
  squares[0] = own;
  for (int64_t k = 0; k < others; ++k, b += map_step) {
    acc_t square = 0, dot = 0;
#pragma omp simd reduction(+ : square, dot)
    for (int64_t c = 0; c < channels; ++c) {
      const acc_t y = acc_t(b[c]);
      square += y * y;
      dot += acc_t(a[c]) * y;
    }
    squares[(k + 1) * step] = square;
    dots[k * step] = dot;
  }
}

// Tiles [begin, end). The sums over channels are taken in the memory of the results.
template <class scalar_t>
DFOPS_CLONES void forward_range(Results<acc_type<scalar_t>> results, Maps<const scalar_t> anchor,
                                Maps<const scalar_t> others, const Sizes& s, const acc_type<scalar_t>* signs,
                                acc_type<scalar_t> eps, const Tiles& tiles, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kRows = 8;
  const int64_t step = s.positions;
  for (int64_t index = begin; index < end; ++index) {
    const Tiles::Tile tile = tiles.at(s, index);
    const int64_t n = tile.count, offset = tile.first * s.position_step();
    const scalar_t *a = anchor.of(tile.group) + offset, *b = others.of(tile.group) + offset;
    acc_t* const norms = results.norms + tile.group * (s.others + 1) * step + tile.first;
    acc_t* const cosines = results.cosines + tile.group * s.others * step + tile.first;
    acc_t* const out = results.out + tile.group * step + tile.first;
    if (s.channels_fastest) {
      for (int64_t i = 0; i < n; ++i)
        sum_channels(norms + i, cosines + i, a + i * s.channels, b + i * s.channels, others.map_step, s.others, step,
                     s.channels);
    } else {
      for (int64_t k = 0; k <= s.others; ++k) std::fill_n(norms + k * step, n, acc_t(0));
      for (int64_t k = 0; k < s.others; ++k) std::fill_n(cosines + k * step, n, acc_t(0));
      int64_t c = 0;
      for (; c + kRows <= s.channels; c += kRows)
        add_channels<kRows>(norms, cosines, a + c * step, b + c * step, others.map_step, s.others, step, n);
      for (; c < s.channels; ++c)
        add_channels<1>(norms, cosines, a + c * step, b + c * step, others.map_step, s.others, step, n);
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) norms[i] = std::sqrt(norms[i]);
    std::fill_n(out, n, acc_t(0));
    for (int64_t k = 0; k < s.others; ++k) {
      acc_t *const norm = norms + (k + 1) * step, *const cosine = cosines + k * step;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        norm[i] = std::sqrt(norm[i]);
        cosine[i] = cosine_at(cosine[i], norms[i], norm[i], eps);
        out[i] += signs[k] * (1 - cosine[i]);
      }
    }
  }
}

// n elements of a row with one factor for all of them (kStep = 0) or one for each (kStep = 1): own (K + 1, step), that
// of the anchor first, and cross (K, step). Unless null, grad_a = own a + sum_k cross b_k and grad_b = cross a + own b.
template <int kStep, class scalar_t>
DFOPS_INLINE void combine_row(scalar_t* grad_a, Maps<scalar_t> grad_b, const scalar_t* a, Maps<const scalar_t> b,
                              const acc_type<scalar_t>* own, const acc_type<scalar_t>* cross, int64_t step,
                              int64_t others, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kMost = 512;
  for (int64_t first = 0; first < n; first += kMost) {
    const int64_t count = min64(kMost, n - first);
    const scalar_t* const x = a + first;
    acc_t sum[kMost];
    if (grad_a != nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) sum[i] = own[(first + i) * kStep] * acc_t(x[i]);
    }
    for (int64_t k = 0; k < others; ++k) {
      const scalar_t* const y = b.of(0, k) + first;
      const acc_t *const from_a = cross + k * step, *const from_b = own + (k + 1) * step;
      if (grad_a != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) sum[i] += from_a[(first + i) * kStep] * acc_t(y[i]);
      }
      if (grad_b.data != nullptr) {
        scalar_t* const to = grad_b.of(0, k) + first;
#pragma omp simd
        for (int64_t i = 0; i < count; ++i)
          to[i] = scalar_t(from_a[(first + i) * kStep] * acc_t(x[i]) + from_b[(first + i) * kStep] * acc_t(y[i]));
      }
    }
    if (grad_a != nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) grad_a[first + i] = scalar_t(sum[i]);
    }
  }
}

// Tiles [begin, end); grad (G, P).
template <class scalar_t>
DFOPS_CLONES void backward_range(Maps<scalar_t> grad_anchor, Maps<scalar_t> grad_others, const acc_type<scalar_t>* grad,
                                 Maps<const scalar_t> anchor, Maps<const scalar_t> others,
                                 const acc_type<scalar_t>* norms, const acc_type<scalar_t>* cosines, const Sizes& s,
                                 const acc_type<scalar_t>* signs, acc_type<scalar_t> eps, const Tiles& tiles,
                                 int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t step = tiles.positions;
  std::vector<acc_t> factors((2 * s.others + 1) * step);
  acc_t *const own = factors.data(), *const cross = own + (s.others + 1) * step;
  for (int64_t index = begin; index < end; ++index) {
    const Tiles::Tile tile = tiles.at(s, index);
    const int64_t n = tile.count;
    const acc_t* const g = grad + tile.group * s.positions + tile.first;
    const acc_t* const norm_a = norms + tile.group * (s.others + 1) * s.positions + tile.first;
    std::fill_n(own, n, acc_t(0));
    for (int64_t k = 0; k < s.others; ++k) {
      const acc_t* const norm = norm_a + (k + 1) * s.positions;
      const acc_t* const cosine = cosines + (tile.group * s.others + k) * s.positions + tile.first;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        cross[k * step + i] = cross_factor(g[i], signs[k], norm_a[i], norm[i], eps);
        own[(k + 1) * step + i] = own_factor(g[i], signs[k] * cosine[i], norm[i], eps);
        own[i] += signs[k] * cosine[i];
      }
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) own[i] = own_factor(g[i], own[i], norm_a[i], eps);

    const auto rows_at = [&](auto maps, int64_t offset) {
      if (maps.data != nullptr) maps.data = maps.of(tile.group) + offset;
      return maps;
    };
    const int64_t rows = s.channels_fastest ? n : s.channels, length = s.channels_fastest ? s.channels : n;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t offset = tile.first * s.position_step() + r * (s.channels_fastest ? s.channels : s.positions);
      const auto grad_a = rows_at(grad_anchor, offset), grad_b = rows_at(grad_others, offset);
      const auto a = rows_at(anchor, offset), b = rows_at(others, offset);
      if (s.channels_fastest)
        combine_row<0>(grad_a.data, grad_b, a.data, b, own + r, cross + r, step, s.others, length);
      else
        combine_row<1>(grad_a.data, grad_b, a.data, b, own, cross, step, s.others, length);
    }
  }
}

// -------------------------------------------------------------------------------------------------------------- Blocks
// The signs travel with the arguments of a launch, which have room for so many.
constexpr int64_t kMostOthers = 256;

template <class acc_t>
struct Signs {
  acc_t values[kMostOthers];

  explicit Signs(const std::vector<double>& signs) { std::copy(signs.begin(), signs.end(), values); }
};

// A block takes tiles of `lanes` positions, `slots` threads share the channels of each. Neighbouring threads read
// neighbouring memory: lanes where positions are fastest, else slots.
struct Plan {
  int64_t lanes, slots, per_group, tiles;

  // The lanes fill a sector of memory; or a warp takes the channels of a position.
  Plan(const Sizes& s, int64_t bytes, int threads)
      : lanes(s.channels_fastest ? threads / 32 : 32 / bytes),
        slots(threads / lanes),
        per_group(ceil_div(s.positions, lanes)),
        tiles(s.groups * per_group) {}

  struct Place {
    int64_t lane, slot;
  };
  DFOPS_HD Place of(const Sizes& s, int thread) const {
    if (s.channels_fastest) return {thread / slots, thread % slots};
    return {thread % lanes, thread / lanes};
  }
};

template <class scalar_t>
struct ForwardBody {
  using acc_t = acc_type<scalar_t>;
  static constexpr int kAtOnce = 4, kSums = 2 * kAtOnce + 1;

  Results<acc_t> results;
  Maps<const scalar_t> anchor, others;
  Sizes sizes;
  Signs<acc_t> signs;
  acc_t eps;
  Plan plan;

  static int64_t shared_bytes(const Plan& plan, int threads) {
    return kSums * (threads + plan.lanes) * int64_t(sizeof(acc_t)) + 32;
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t lanes = plan.lanes, slots = plan.slots;
    acc_t* const shares = block.template shared<acc_t>(kSums * block.threads());  // (sums, slots, lanes)
    acc_t* const totals = block.template shared<acc_t>(kSums * lanes);
    auto out = block.template local<acc_t>();
    auto anchor_norm = block.template local<acc_t>();
    for (int64_t tile = block.index(); tile < plan.tiles; tile += block.count()) {
      const int64_t group = tile / plan.per_group, first = (tile - group * plan.per_group) * lanes;
      // also without others: the norm of the anchor is a result
      for (int64_t k = 0; k == 0 || k < s.others; k += kAtOnce) {
        const int64_t count = min64(kAtOnce, s.others - k);
        block.each([&](int thread) {
          const Plan::Place place = plan.of(s, thread);
          acc_t sums[kSums] = {};
          if (first + place.lane < s.positions) add(sums, group, first + place.lane, place.slot, k, count);
          for (int i = 0; i < kSums; ++i) shares[(i * slots + place.slot) * lanes + place.lane] = sums[i];
        });
        block.each([&](int thread) {
          for (int64_t i = thread; i < kSums * lanes; i += block.threads()) {
            acc_t total = 0;
            const acc_t* const share = shares + i / lanes * slots * lanes + i % lanes;
            for (int64_t slot = 0; slot < slots; ++slot) total += share[slot * lanes];
            totals[i] = total;
          }
        });
        block.each([&](int thread) {
          const int64_t position = first + thread;
          if (thread >= lanes || position >= s.positions) return;
          acc_t* const norms = results.norms + group * (s.others + 1) * s.positions + position;
          if (k == 0) {
            out[thread] = 0;
            norms[0] = anchor_norm[thread] = std::sqrt(totals[thread]);
          }
          for (int64_t j = 0; j < count; ++j) {
            const acc_t norm = std::sqrt(totals[(1 + j) * lanes + thread]);
            const acc_t cosine =
                cosine_at(totals[(1 + kAtOnce + j) * lanes + thread], anchor_norm[thread], norm, eps);
            norms[(k + j + 1) * s.positions] = norm;
            results.cosines[(group * s.others + k + j) * s.positions + position] = cosine;
            out[thread] += signs.values[k + j] * (1 - cosine);
          }
          if (k + kAtOnce >= s.others) results.out[group * s.positions + position] = out[thread];
        });
      }
    }
  }

  // The slot's channels: |a|^2, |b_k|^2 and a . b_k for `count` others from k on.
  DFOPS_HD void add(acc_t* sums, int64_t group, int64_t position, int64_t slot, int64_t k, int64_t count) const {
    const int64_t from = position * sizes.position_step(), step = sizes.channel_step();
    const scalar_t *a = anchor.of(group) + from, *b = others.of(group, k) + from;
    for (int64_t c = slot; c < sizes.channels; c += plan.slots) {
      const acc_t x = acc_t(a[c * step]);
      sums[0] += x * x;
      for (int j = 0; j < kAtOnce; ++j) {
        if (j >= count) break;
        const acc_t y = acc_t(b[j * others.map_step + c * step]);
        sums[1 + j] += y * y;
        sums[1 + kAtOnce + j] += x * y;
      }
    }
  }
};

// The blocks of a slice take every `slices`-th channel of a thread.
template <class scalar_t>
struct BackwardBody {
  using acc_t = acc_type<scalar_t>;

  Maps<scalar_t> grad_anchor, grad_others;
  const acc_t* grad;
  Maps<const scalar_t> anchor, others;
  const acc_t *norms, *cosines;
  Sizes sizes;
  Signs<acc_t> signs;
  acc_t eps;
  Plan plan;
  int64_t slices;

  static int64_t shared_bytes(const Sizes& s, const Plan& plan) {
    return (2 * s.others + 1) * plan.lanes * int64_t(sizeof(acc_t)) + 32;
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t lanes = plan.lanes;
    // (K + 1, lanes), that of the anchor first, and (K, lanes)
    acc_t* const own = block.template shared<acc_t>((s.others + 1) * lanes);
    acc_t* const cross = block.template shared<acc_t>(s.others * lanes);
    for (int64_t index = block.index(); index < plan.tiles * slices; index += block.count()) {
      const int64_t tile = index / slices, slice = index - tile * slices;
      const int64_t group = tile / plan.per_group, first = (tile - group * plan.per_group) * lanes;
      block.each([&](int thread) {
        for (int64_t i = thread; i < (s.others + 1) * lanes; i += block.threads()) {
          const int64_t map = i / lanes, position = first + i % lanes;
          if (position < s.positions) set_factors(own + i, cross + i - lanes, group, map, position);
        }
      });
      block.each([&](int thread) {
        const Plan::Place place = plan.of(s, thread);
        const int64_t position = first + place.lane;
        if (position >= s.positions) return;
        for (int64_t c = slice * plan.slots + place.slot; c < s.channels; c += slices * plan.slots)
          differentiate(own + place.lane, cross + place.lane, group,
                        position * s.position_step() + c * s.channel_step());
      });
    }
  }

  // `cross` is that of other map - 1; the anchor has none.
  DFOPS_HD void set_factors(acc_t* own, acc_t* cross, int64_t group, int64_t map, int64_t position) const {
    const Sizes& s = sizes;
    const acc_t g = grad[group * s.positions + position];
    const acc_t* const norm = norms + group * (s.others + 1) * s.positions + position;
    const acc_t* const cosine = cosines + group * s.others * s.positions + position;
    if (map == 0) {
      acc_t sum = 0;
      for (int64_t k = 0; k < s.others; ++k) sum += signs.values[k] * cosine[k * s.positions];
      *own = own_factor(g, sum, norm[0], eps);
    } else {
      const acc_t sign = signs.values[map - 1], other = norm[map * s.positions];
      *cross = cross_factor(g, sign, norm[0], other, eps);
      *own = own_factor(g, sign * cosine[(map - 1) * s.positions], other, eps);
    }
  }

  DFOPS_HD void differentiate(const acc_t* own, const acc_t* cross, int64_t group, int64_t at) const {
    const acc_t x = acc_t(anchor.of(group)[at]);
    acc_t sum = own[0] * x;
    for (int64_t k = 0; k < sizes.others; ++k) {
      const acc_t y = acc_t(others.of(group, k)[at]), from_a = cross[k * plan.lanes];
      sum += from_a * y;
      if (grad_others.data != nullptr)
        grad_others.of(group, k)[at] = scalar_t(from_a * x + own[(k + 1) * plan.lanes] * y);
    }
    if (grad_anchor.data != nullptr) grad_anchor.of(group)[at] = scalar_t(sum);
  }
};

}  // namespace dfops::cosine
