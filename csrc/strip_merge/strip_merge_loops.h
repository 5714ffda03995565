// The loops of the CPU. A slab is the whole length of `width` neighbouring positions, or of several rows of positions
// where they are short.
#pragma once

#include <vector>

#include "common/filter_loops.h"
#include "strip_merge/strip_merge.h"

namespace dfops::merge {

// out[i] = sum over the rows / divisor
template <class scalar_t>
DFOPS_CLONES void mean_of_parts(scalar_t* out, const scalar_t* const* rows, int64_t count, acc_type<scalar_t> divisor,
                                int64_t n) {
  using acc_t = acc_type<scalar_t>;
  sum_of_rows<acc_t>(Divide<scalar_t, acc_t>{out, divisor}, Listed<scalar_t>{rows}, count, n);
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
        mean_of_parts(out + (outer * size + i) * inner + first, rows, parts.count, acc_t(parts.count), width);
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
          mean_of_rows(to + j * inner, g + from * inner, inner, until - from, acc_t(grads.count), width);
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

}  // namespace dfops::merge
