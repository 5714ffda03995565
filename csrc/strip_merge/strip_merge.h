// out[i] = mean over the parts of part[i * length / size], along one axis.
#pragma once

#include <algorithm>
#include <vector>

#include "common/portable.h"
#include "common/strip.h"

namespace dfops::merge {

constexpr int kMostParts = 8;

// The first position of the output that reads position j of a part.
DFOPS_HD int64_t first_reader(int64_t j, int64_t length, int64_t size) {
  return quotient(j * size + length - 1, length);
}

template <class scalar_t>
struct Part {
  scalar_t* data;
  int64_t length;
};

// Passed to kernels by value. A null pointer stands for an empty part.
template <class scalar_t>
struct Parts {
  Part<scalar_t> part[kMostParts];
  int count;
};

// ---------------------------------------------------------------------------------------------------------------- CPU
// A slab is the whole length of `width` neighbouring positions, or of several rows of positions where they are short.

// out[i] = sum over the rows / divisor
template <class scalar_t>
DFOPS_CLONES void mean_of_rows(scalar_t* out, const scalar_t* const* rows, int64_t count, acc_type<scalar_t> divisor,
                               int64_t n) {
  using acc_t = acc_type<scalar_t>;
  if (count == 3) {
    const scalar_t *a = rows[0], *b = rows[1], *c = rows[2];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scalar_t((acc_t(a[i]) + acc_t(b[i]) + acc_t(c[i])) / divisor);
    return;
  }
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t number = min64(kLanes, n - first);
    acc_t sum[kLanes] = {};
    for (int64_t r = 0; r < count; ++r) {
      const scalar_t* row = rows[r] + first;
#pragma omp simd
      for (int64_t i = 0; i < number; ++i) sum[i] += acc_t(row[i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < number; ++i) out[first + i] = scalar_t(sum[i] / divisor);
  }
}

// out[i] = sum over k < count of rows[k * stride + i] / divisor
template <class scalar_t>
DFOPS_CLONES void mean_of_neighbours(scalar_t* out, const scalar_t* rows, int64_t stride, int64_t count,
                                     acc_type<scalar_t> divisor, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  if (count == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scalar_t(acc_t(rows[i]) / divisor);
    return;
  }
  if (count == 2) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scalar_t((acc_t(rows[i]) + acc_t(rows[stride + i])) / divisor);
    return;
  }
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t number = min64(kLanes, n - first);
    acc_t sum[kLanes] = {};
    for (int64_t k = 0; k < count; ++k) {
#pragma omp simd
      for (int64_t i = 0; i < number; ++i) sum[i] += acc_t(rows[k * stride + first + i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < number; ++i) out[first + i] = scalar_t(sum[i] / divisor);
  }
}

// One row along the axis itself; `source` holds the position each output reads in each part.
template <class scalar_t>
DFOPS_CLONES void mean_within_row(scalar_t* out, const scalar_t* const* parts, const int64_t* source, int64_t count,
                                  int64_t size) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < size; first += kLanes) {
    const int64_t number = min64(kLanes, size - first);
    acc_t sum[kLanes] = {};
    for (int64_t p = 0; p < count; ++p) {
      const int64_t* from = source + p * size + first;
#pragma omp simd
      for (int64_t i = 0; i < number; ++i) sum[i] += acc_t(parts[p][from[i]]);
    }
#pragma omp simd
    for (int64_t i = 0; i < number; ++i) out[first + i] = scalar_t(sum[i] / acc_t(count));
  }
}

// Positions [begin, end) of all `strips.positions()`, whole rows of them or a piece of one row; strips.length is the
// size of the output.
template <class scalar_t>
void forward_range(scalar_t* out, const Parts<const scalar_t>& parts, const Strips& strips, const int64_t* source,
                   int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t size = strips.length, inner = strips.inner;
  const scalar_t* rows[kMostParts];
  for (int64_t position = begin; position < end;) {
    const int64_t outer = position / inner, first = position % inner, width = min64(inner - first, end - position);
    if (inner == 1) {
      for (int p = 0; p < parts.count; ++p) rows[p] = parts.part[p].data + outer * parts.part[p].length;
      mean_within_row(out + outer * size, rows, source, parts.count, size);
    } else {
      for (int64_t i = 0; i < size; ++i) {
        for (int p = 0; p < parts.count; ++p)
          rows[p] = parts.part[p].data + (outer * parts.part[p].length + source[p * size + i]) * inner + first;
        mean_of_rows(out + (outer * size + i) * inner + first, rows, parts.count, acc_t(parts.count), width);
      }
    }
    position += width;
  }
}

template <class scalar_t>
void backward_range(const Parts<scalar_t>& grads, const scalar_t* grad, const Strips& strips, int64_t begin,
                    int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t size = strips.length, inner = strips.inner;
  for (int64_t position = begin; position < end;) {
    const int64_t outer = position / inner, first = position % inner, width = min64(inner - first, end - position);
    const scalar_t* g = grad + outer * size * inner + first;
    for (int p = 0; p < grads.count; ++p) {
      const int64_t length = grads.part[p].length;
      scalar_t* to = grads.part[p].data + outer * length * inner + first;
      for (int64_t j = 0; j < length; ++j) {
        const int64_t from = first_reader(j, length, size), until = first_reader(j + 1, length, size);
        if (inner == 1) {
          acc_t sum = 0;
          for (int64_t i = from; i < until; ++i) sum += acc_t(g[i]);
          to[j] = scalar_t(sum / acc_t(grads.count));
        } else {
          mean_of_neighbours(to + j * inner, g + from * inner, inner, until - from, acc_t(grads.count), width);
        }
      }
    }
    position += width;
  }
}

// Positions a thread takes at a time: few enough for their slab to stay in cache.
inline int64_t positions_per_slab(const Strips& strips) {
  const int64_t fitting = 16384 / (strips.length + 1) / 64 * 64;
  return fitting > 64 ? fitting : 64;
}

inline std::vector<int64_t> sources(const std::vector<int64_t>& lengths, int64_t size) {
  std::vector<int64_t> source;
  for (const int64_t length : lengths)
    for (int64_t i = 0; i < size; ++i) source.push_back(i * length / size);
  return source;
}

// --------------------------------------------------------------------------------------------------------------- CUDA
// A block handles tiles: a piece of one row of positions over the whole length, or whole rows where they are short.
struct Tiles {
  int64_t rows, width, per_row, count;

  Tiles(const Strips& s, int64_t elements) {
    const int64_t fitting = elements / (s.length + 1) / 128 * 128, positions = fitting > 128 ? fitting : 128;
    width = min64(s.inner, positions);
    rows = width < s.inner ? 1 : min64(s.outer, ceil_div(elements, width * (s.length + 1)));
    per_row = ceil_div(s.inner, width);
    count = ceil_div(s.outer, rows) * per_row;
  }

  // Calls f(outer, row, i) for the thread's share of an array of n rows in one tile, in steps of kPack positions.
  template <int kPack, class F>
  DFOPS_HD void each(const Strips& s, int64_t tile, int64_t n, int thread, int threads, const F& f) const {
    const int64_t first_row = quotient(tile, per_row) * rows, first = tile % per_row * width;
    const int64_t packs = min64(width, s.inner - first) / kPack, count = min64(rows, s.outer - first_row) * n * packs;
    for (int64_t e = thread; e < count; e += threads) {
      const int64_t line = quotient(e, packs), outer = quotient(line, n);
      f(first_row + outer, line - outer * n, first + (e - line * packs) * kPack);
    }
  }
};

// inner is a multiple of kPack.
template <class scalar_t, int kPack>
struct ForwardBody {
  scalar_t* out;
  Parts<const scalar_t> parts;
  Strips strips;
  Tiles tiles;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    const int64_t size = strips.length, inner = strips.inner;
    block.each([&](int thread) {
      for (int64_t tile = block.index(); tile < tiles.count; tile += block.count())
        tiles.each<kPack>(strips, tile, size, thread, block.threads(), [&](int64_t outer, int64_t row, int64_t i) {
          acc_t sum[kPack] = {};
          for (int p = 0; p < parts.count; ++p) {
            const int64_t length = parts.part[p].length, source = outer * length + quotient(row * length, size);
            const pack_t value = *reinterpret_cast<const pack_t*>(parts.part[p].data + source * inner + i);
            for (int k = 0; k < kPack; ++k) sum[k] += acc_t(value.values[k]);
          }
          pack_t mean;
          for (int k = 0; k < kPack; ++k) mean.values[k] = scalar_t(sum[k] / acc_t(parts.count));
          *reinterpret_cast<pack_t*>(out + (outer * size + row) * inner + i) = mean;
        });
    });
  }
};

// A thread adds the rows that read one position of one part; the tile of the gradient stays in cache for all parts.
template <class scalar_t, int kPack>
struct BackwardBody {
  Parts<scalar_t> grads;
  const scalar_t* grad;
  Strips strips;
  Tiles tiles;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    const int64_t size = strips.length, inner = strips.inner;
    block.each([&](int thread) {
      for (int64_t tile = block.index(); tile < tiles.count; tile += block.count())
        for (int p = 0; p < grads.count; ++p) {
          const int64_t length = grads.part[p].length;
          tiles.each<kPack>(strips, tile, length, thread, block.threads(), [&](int64_t outer, int64_t j, int64_t i) {
            acc_t sum[kPack] = {};
            const int64_t until = first_reader(j + 1, length, size);
            for (int64_t row = first_reader(j, length, size); row < until; ++row) {
              const pack_t value = *reinterpret_cast<const pack_t*>(grad + (outer * size + row) * inner + i);
              for (int k = 0; k < kPack; ++k) sum[k] += acc_t(value.values[k]);
            }
            pack_t mean;
            for (int k = 0; k < kPack; ++k) mean.values[k] = scalar_t(sum[k] / acc_t(grads.count));
            *reinterpret_cast<pack_t*>(grads.part[p].data + (outer * length + j) * inner + i) = mean;
          });
        }
    });
  }
};

}  // namespace dfops::merge
