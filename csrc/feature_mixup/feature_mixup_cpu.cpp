#include "feature_mixup/feature_mixup_host.h"
#include "feature_mixup/feature_mixup_loops.h"

namespace dfops::mixup {
namespace {

// Rows are cut into pieces of one size whatever the number of threads, so sums for lam always have the same order.
constexpr int64_t kPiece = 16384;

// Reading values costs no synchronisation here.
void check_values(const Tensor& index) {
  const int64_t n = index.size(0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t value = data<int64_t>(index)[i];
    STD_TORCH_CHECK(value >= 0 && value < n, "index must lie in 0 .. ", n - 1, ", got ", value, " at position ", i);
  }
}

// Calls f(row, offset, count, piece) for the pieces of all rows, in parallel.
template <class F>
void each_piece(int64_t rows, int64_t row, const F& f) {
  const int64_t pieces = ceil_div(row, kPiece);
  torch::stable::parallel_for(0, rows * pieces, ceil_div(kPiece, row), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t offset = i % pieces * kPiece;
      f(i / pieces, offset, min64(kPiece, row - offset), i);
    }
  });
}

Tensor feature_mixup_cpu(const Tensor& x, const Tensor& index, const Tensor& lam) {
  const ForwardCall call(x, index, lam);
  check_values(call.index);
  if (x.numel() == 0) return call.out;
  const int64_t row = call.row;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    const scalar_t* from = data<scalar_t>(call.x);
    each_piece(call.rows, row, [&](int64_t i, int64_t offset, int64_t count, int64_t) {
      blend_range(mutable_data<scalar_t>(call.out) + i * row + offset, from + i * row + offset,
                  from + data<int64_t>(call.index)[i] * row + offset, data<acc_type<scalar_t>>(call.lam)[i], count);
    });
  });
  return call.out;
}

std::tuple<Tensor, Tensor> feature_mixup_backward_cpu(const Tensor& grad, const std::optional<Tensor>& x,
                                                      const Tensor& index, const Tensor& lam, bool need_x) {
  const BackwardCall call(grad, x, index, lam, need_x);
  check_values(call.index);
  if (grad.numel() == 0) return call.results();
  const int64_t rows = call.rows, row = call.row, pieces = ceil_div(row, kPiece);
  const int64_t* blended = data<int64_t>(call.index);
  // the rows that blend row j in are sources[begin[j]] to sources[begin[j + 1] - 1], ascending
  std::vector<int64_t> begin(rows + 1), sources(rows);
  for (int64_t i = 0; i < rows; ++i) ++begin[blended[i] + 1];
  for (int64_t j = 0; j < rows; ++j) begin[j + 1] += begin[j];
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  for (int64_t i = 0; i < rows; ++i) sources[next[blended[i]]++] = i;
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const scalar_t* g = data<scalar_t>(call.grad);
    if (need_x)
      each_piece(rows, row, [&](int64_t j, int64_t offset, int64_t count, int64_t) {
        gather_range(mutable_data<scalar_t>(call.grad_x) + j * row + offset, g + offset, row, j,
                     sources.data() + begin[j], begin[j + 1] - begin[j], data<acc_t>(call.lam), count);
      });
    if (!x) return;
    const scalar_t* from = data<scalar_t>(*call.x);
    std::vector<acc_t> partial(rows * pieces);
    each_piece(rows, row, [&](int64_t i, int64_t offset, int64_t count, int64_t piece) {
      partial[piece] =
          lam_range(g + i * row + offset, from + i * row + offset, from + blended[i] * row + offset, count);
    });
    for (int64_t i = 0; i < rows; ++i) {
      acc_t total = 0;
      for (int64_t p = 0; p < pieces; ++p) total += partial[i * pieces + p];
      mutable_data<acc_t>(call.grad_lam)[i] = total;
    }
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("feature_mixup", TORCH_BOX(&feature_mixup_cpu));
  m.impl("_feature_mixup_backward", TORCH_BOX(&feature_mixup_backward_cpu));
}

}  // namespace dfops::mixup
