// The loops of the CPU.
#pragma once

#include <algorithm>
#include <vector>

#include "paired_cosine/paired_cosine.h"

namespace dfops::cosine {

// A tile is some neighbouring positions of a group.
struct Tiles {
  int64_t positions, per_group, count;

  explicit Tiles(const Sizes& s, int64_t most = 0)
      : positions(most > 0             ? most
                  : s.channels_fastest ? 16
                                       : 128),
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

}  // namespace dfops::cosine
