// The loops of the CPU.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/filter_loops.h"
#include "directional_difference/directional_difference.h"

namespace dfops::directional {

// A piece is some rows of one plane in all frames of a clip: whole lines, or part of a single long one. What it reads
// of a frame stays in cache until the next frame has used it too.
struct Pieces {
  int64_t rows, per_plane, count;
  static constexpr int64_t kLongLine = 1024;

  // About `elements` elements of a frame a piece.
  Pieces(const Planes& p, int64_t elements) {
    const int64_t line = p.length * p.inner, unit = p.lines > 1 ? line : p.inner;
    const int64_t units = unit < elements && !(p.lines > 1 && line >= kLongLine) ? elements / unit : 1;
    rows = min64(units * (unit / p.inner), p.rows());
    per_plane = ceil_div(p.rows(), rows);
    count = p.clips * p.planes * per_plane;
  }

  struct Piece {
    int64_t plane, offset, begin, end;  // the first element of the plane in frame 0; rows
  };
  Piece at(const Planes& p, int64_t index) const {
    const int64_t plane = index / per_plane, begin = index % per_plane * rows;
    return {plane % p.planes, plane / p.planes * p.frames * p.frame() + plane % p.planes * p.plane(), begin,
            min64(p.rows(), begin + rows)};
  }
};

// The rows of a line that lack a tap: the k-th of them is at the start of the line or at its end.
struct Edges {
  int64_t count, half, length;

  Edges(const Planes& p, int64_t taps) : count(min64(p.length, taps / 2 * 2)), half(taps / 2), length(p.length) {}
  int64_t at(int64_t k) const { return k < half ? k : length - count + k; }
};

// The taps that lie inside the line for its row j.
struct Inside {
  int64_t first, count;

  Inside(const Planes& p, int64_t taps, int64_t j) {
    const int64_t half = taps / 2;
    first = half > j ? half - j : 0;
    count = min64(taps, p.length - j + half) - first;
  }
};

// out[i] = sum_m w[m] y[m * shift + i] (- x[i] if kMinus)
template <bool kMinus, class scalar_t>
DFOPS_INLINE void filter_run(scalar_t* out, const scalar_t* x, const scalar_t* y, int64_t shift,
                             Taps<acc_type<scalar_t>> w, int64_t taps, int64_t n) {
  if constexpr (kMinus)
    dfops::filter_run(Subtract<scalar_t>{out, x}, y, shift, w, taps, n);
  else
    dfops::filter_run(Put<scalar_t>{out}, y, shift, w, taps, n);
}

// The same for two taps at n places `step` apart, without the cost of starting a vector loop for each.
template <bool kMinus, class scalar_t>
DFOPS_INLINE void filter_places(scalar_t* out, const scalar_t* x, const scalar_t* y, int64_t shift,
                                const acc_type<scalar_t>* weight, int64_t stride, int64_t step, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  const acc_t a = weight[0], b = weight[stride];
  for (int64_t i = 0; i < n * step; i += step) {
    const acc_t sum = a * acc_t(y[i]) + b * acc_t(y[shift + i]);
    out[i] = scalar_t(kMinus ? sum - acc_t(x[i]) : sum);
  }
}

// Rows [begin, end) of a plane: out = D(y) (- x if kMinus); the pointers are those of the plane.
template <bool kMinus, class scalar_t>
DFOPS_CLONES void filter_rows(scalar_t* out, const scalar_t* x, const scalar_t* y, const Planes& p,
                              Taps<acc_type<scalar_t>> w, int64_t taps, int64_t begin, int64_t end) {
  const int64_t half = taps / 2, inner = p.inner;
  // lines are often short: all rows at once, as if the plane were one line, then again those that this gets wrong
  const int64_t first = begin > half ? begin : half, last = min64(end, p.rows() - half);
  if (p.length > 2 * half && first < last)
    filter_run<kMinus>(out + first * inner, x + first * inner, y + (first - half) * inner, inner, w, taps,
                       (last - first) * inner);
  const Edges edges(p, taps);
  for (int64_t k = 0; k < edges.count; ++k) {
    // row j of every line; a piece of several lines begins with one
    const int64_t j = edges.at(k), row = p.lines > 1 ? begin + j : j;
    if (row < begin || row >= end) continue;
    const Inside inside(p, taps, j);
    const Taps<acc_type<scalar_t>> some{w.weight + inside.first * w.stride, w.stride, w.period};
    const int64_t to = row * inner, from = (row + inside.first - half) * inner;
    const int64_t step = p.length * inner, lines = ceil_div(end - row, p.length);
    if (inside.count == 2 && inner <= 16)
      for (int64_t i = 0; i < inner; ++i)
        filter_places<kMinus>(out + to + i, x + to + i, y + from + i, inner, some.weight + (w.period > 0 ? i : 0),
                              w.stride, step, lines);
    else
      for (int64_t at = 0; at < lines * step; at += step)
        filter_run<kMinus>(out + to + at, x + to + at, y + from + at, inner, some, inside.count, inner);
  }
}

template <class scalar_t>
DFOPS_CLONES void negate(scalar_t* out, const scalar_t* in, int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = scalar_t(-acc_t(in[i]));
}

// The weight as the loops read it, and how many of its values belong to one tap: all channels, one after another, which
// are repeated to the period where channels vary fastest. `flip` reverses the taps, for the gradient of x.
template <class acc_t>
struct Weight {
  static constexpr int64_t kLongPeriod = 512, kLargePlane = 32 * kLongPeriod;
  int64_t taps, period, row;
  std::vector<acc_t> arranged;

  template <class scalar_t>
  Weight(const scalar_t* weight, int64_t count, const Strips& strips, const Planes& p, bool flip) : taps(count) {
    Slabs slabs(strips);
    // loops over a period should be long, and the period short beside the plane
    if (slabs.period > 0 && p.plane() > kLargePlane) slabs.period = p.channels * ceil_div(kLongPeriod, p.channels);
    const int64_t scale = 1;
    period = slabs.period;
    row = period > 0 ? period : strips.channels;
    arranged = arrange_weight(weight, Filters{1, 1, taps, &scale, true}, strips.channels, slabs, flip);
  }

  Taps<acc_t> of(int64_t plane) const { return {arranged.data() + plane, row, period}; }
};

// Pieces [begin, end).
template <class scalar_t>
void forward_range(scalar_t* out, const scalar_t* x, const Weight<acc_type<scalar_t>>& weight, const Planes& p,
                   const Pieces& pieces, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    const Pieces::Piece piece = pieces.at(p, index);
    for (int64_t t = 0; t + 1 < p.frames; ++t) {
      const int64_t at = piece.offset + t * p.frame();
      filter_rows<true>(out + at, x + at, x + at + p.frame(), p, weight.of(piece.plane), weight.taps, piece.begin,
                        piece.end);
    }
    scalar_t* last = out + piece.offset + (p.frames - 1) * p.frame();
    std::fill_n(last + piece.begin * p.inner, (piece.end - piece.begin) * p.inner, scalar_t(0));
  }
}

// Sums for the weight, (M, lanes). In pieces of several lines a lane stands for a position in a line, so that the rows
// of all lines can be taken at once: where a tap leaves its line and meets the next, the sum is dropped afterwards.
struct Lanes {
  int64_t count, lines;
  static constexpr int64_t kVector = 16, kMost = 1024;

  Lanes(const Planes& p, const Pieces& pieces, int64_t taps, int64_t period)
      : count(period > 0 ? period : 64), lines(0) {
    if (pieces.rows <= p.length || p.length <= taps / 2 * 2) return;
    // lines enough to fill vectors
    for (lines = 1; lines * p.length * p.inner % kVector != 0 && 2 * lines * p.length * p.inner <= kMost;) lines *= 2;
    lines = min64(lines, pieces.rows / p.length);
    count = lines * p.length * p.inner;
  }
  // The first lane of row j; lane 0 belongs to row `half`.
  int64_t of(const Planes& p, int64_t j, int64_t half) const {
    return lines > 0 ? (j + p.length - half) % p.length * p.inner : 0;
  }
};

// Rows [begin, end): sums += grad times what each tap reads of `in`; both pointers are at row `begin`.
template <class acc_t>
void correlate_rows(acc_t* sums, const Lanes& lanes, const acc_t* grad, const acc_t* in, const Planes& p, int64_t taps,
                    int64_t begin, int64_t end) {
  const int64_t half = taps / 2, inner = p.inner;
  const bool flat = p.length > 2 * half && end - begin > 2 * half;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = (row - begin) * inner;
    if (flat && row == begin + half) {
      correlate_stretch(sums, lanes.count, lanes.count, grad + at, in + at - half * inner, inner, taps,
                        (end - begin - 2 * half) * inner);
      row = end - half - 1;
      continue;
    }
    const int64_t j = row % p.length;
    const Inside inside(p, taps, j);
    correlate_stretch(sums + inside.first * lanes.count + lanes.of(p, j, half), lanes.count, lanes.count, grad + at,
                      in + at + (inside.first - half) * inner, inner, inside.count, inner);
  }
}

// Drops the sums of taps that left their line.
template <class acc_t>
void drop_outside(acc_t* sums, const Lanes& lanes, const Planes& p, int64_t taps) {
  const Edges edges(p, taps);
  for (int64_t line = 0; line < lanes.lines; ++line)
    for (int64_t k = 0; k < edges.count; ++k) {
      const Inside inside(p, taps, edges.at(k));
      acc_t* first = sums + line * p.length * p.inner + lanes.of(p, edges.at(k), taps / 2);
      for (int64_t m = 0; m < taps; ++m)
        if (m < inside.first || m >= inside.first + inside.count)
          std::fill_n(first + m * lanes.count, p.inner, acc_t(0));
    }
}

template <class acc_t>
DFOPS_CLONES acc_t sum_of(const acc_t* values, int64_t n) {
  acc_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += values[i];
  return sum;
}

// Pieces [begin, end). `flipped` is the weight with `flip`; grad_x may be null. `sums` (C, M), the shares of the weight
// gradient, is added to; it may be null.
template <class scalar_t>
void backward_range(scalar_t* grad_x, acc_type<scalar_t>* sums, const scalar_t* grad, const scalar_t* x,
                    const Weight<acc_type<scalar_t>>& flipped, const Planes& p, const Pieces& pieces, int64_t begin,
                    int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t taps = flipped.taps;
  const Lanes lanes(p, pieces, taps, flipped.period);
  std::vector<acc_t> shares(sums != nullptr ? taps * lanes.count : 0);
  const bool widen = sums != nullptr && !std::is_same_v<scalar_t, acc_t>;
  std::vector<acc_t> wide_grad(widen ? pieces.rows * p.inner : 0), wide_x(widen ? (pieces.rows + taps) * p.inner : 0);
  for (int64_t index = begin; index < end; ++index) {
    const Pieces::Piece piece = pieces.at(p, index);
    const int64_t first = piece.begin * p.inner, n = (piece.end - piece.begin) * p.inner;
    // the rows of x that the taps of these rows read
    const int64_t read = piece.begin > taps / 2 ? piece.begin - taps / 2 : 0;
    const int64_t read_end = min64(p.rows(), piece.end + taps / 2);
    std::fill(shares.begin(), shares.end(), acc_t(0));
    for (int64_t t = 0; t < p.frames; ++t) {
      const int64_t at = piece.offset + t * p.frame();
      const bool is_last = t + 1 == p.frames;
      if (grad_x != nullptr) {
        scalar_t* to = grad_x + at;
        const scalar_t* own = grad + at;
        if (t > 0 && is_last)
          filter_rows<false>(to, own, own - p.frame(), p, flipped.of(piece.plane), taps, piece.begin, piece.end);
        else if (t > 0)
          filter_rows<true>(to, own, own - p.frame(), p, flipped.of(piece.plane), taps, piece.begin, piece.end);
        else if (is_last)
          std::fill_n(to + first, n, scalar_t(0));
        else
          negate(to + first, own + first, n);
      }
      if (sums != nullptr && !is_last) {
        int64_t ignored;
        const int64_t count = (read_end - read) * p.inner;
        const acc_t* g = pooled_rows(wide_grad.data(), grad + at + first, n, 1, 1, n, &ignored);
        const acc_t* in = pooled_rows(wide_x.data(), x + at + p.frame() + read * p.inner, count, 1, 1, count, &ignored);
        correlate_rows(shares.data(), lanes, g, in + first - read * p.inner, p, taps, piece.begin, piece.end);
      }
    }
    if (sums == nullptr) continue;
    drop_outside(shares.data(), lanes, p, taps);
    for (int64_t m = 0; m < taps; ++m) {
      const acc_t* share = shares.data() + m * lanes.count;
      if (p.channels == 1)
        sums[piece.plane * taps + m] += sum_of(share, lanes.count);
      else
        for (int64_t i = 0; i < lanes.count; i += p.channels)
          for (int64_t c = 0; c < p.channels; ++c) sums[c * taps + m] += share[i + c];
    }
  }
}

}  // namespace dfops::directional
