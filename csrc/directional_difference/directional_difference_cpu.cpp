#include <tuple>

#include "directional_difference/directional_difference_host.h"

namespace dfops::directional {
namespace {

// Elements of x a thread takes at a time, and of a frame a piece.
constexpr int64_t kGrain = 32768, kPiece = 32768;

Tensor directional_difference_cpu(const Tensor& x, const Tensor& weight, int64_t axis) {
  check_arguments(x, weight, axis);
  const ClipLayout layout = clip_layout(x);
  Tensor out = empty_clip(x, sizes_of(x), layout, x.scalar_type());
  if (x.numel() == 0) return out;
  const Tensor xs = as_clip(x, layout), ws = torch::stable::contiguous(weight);
  const Strips strips = clip_strips(sizes_of(x), layout, axis);
  const Planes planes(x.size(0), x.size(1), strips);
  const Pieces pieces(planes, kPiece);
  dispatch(x, "directional_difference", [&](auto zero) {
    using scalar_t = decltype(zero);
    const Weight<acc_type<scalar_t>> w(data<scalar_t>(ws), weight.size(1), strips, planes, false);
    torch::stable::parallel_for(
        0, pieces.count, ceil_div(kGrain, pieces.rows * planes.inner * planes.frames),
        [&](int64_t begin, int64_t end) {
          forward_range(mutable_data<scalar_t>(out), data<scalar_t>(xs), w, planes, pieces, begin, end);
        });
  });
  return out;
}

std::tuple<Tensor, Tensor> directional_difference_backward_cpu(const Tensor& grad, const Tensor& x,
                                                               const Tensor& weight, int64_t axis, bool need_x,
                                                               bool need_weight) {
  check_arguments(x, weight, axis);
  check_gradient(grad, x);
  const ClipLayout layout = clip_layout(x);
  auto grads = new_gradients(x, weight, layout, need_x, need_weight);
  Tensor &grad_x = std::get<0>(grads), &grad_weight = std::get<1>(grads);
  if (x.numel() == 0 && need_weight) torch::stable::zero_(grad_weight);
  if (x.numel() == 0 || (!need_x && !need_weight)) return grads;
  const Tensor gs = as_clip(grad, layout), xs = need_weight ? as_clip(x, layout) : x;
  const Tensor ws = torch::stable::contiguous(weight);
  const Strips strips = clip_strips(sizes_of(x), layout, axis);
  const Planes planes(x.size(0), x.size(1), strips);
  const Pieces pieces(planes, kPiece);
  dispatch(x, "directional_difference_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const Weight<acc_t> flipped(data<scalar_t>(ws), weight.size(1), strips, planes, true);
    // chunks are of one size whatever the number of threads, so the sums for the weight always have the same order;
    // they are large enough for their partial sums to be small beside the data
    const int64_t shares = need_weight ? weight.numel() : 0, elements = kGrain > 8 * shares ? kGrain : 8 * shares;
    const int64_t chunk = ceil_div(pieces.count, min64(128, ceil_div(x.numel(), elements)));
    const int64_t chunks = ceil_div(pieces.count, chunk);
    std::vector<acc_t> partial(chunks * shares);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        backward_range(need_x ? mutable_data<scalar_t>(grad_x) : nullptr,
                       need_weight ? partial.data() + i * shares : nullptr, data<scalar_t>(gs), data<scalar_t>(xs),
                       flipped, planes, pieces, i * chunk, min64(pieces.count, (i + 1) * chunk));
    });
    for (int64_t i = 0; i < shares; ++i) {
      acc_t total = 0;
      for (int64_t j = 0; j < chunks; ++j) total += partial[j * shares + i];
      mutable_data<scalar_t>(grad_weight)[i] = scalar_t(total);
    }
  });
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("directional_difference", TORCH_BOX(&directional_difference_cpu));
  m.impl("_directional_difference_backward", TORCH_BOX(&directional_difference_backward_cpu));
}

}  // namespace dfops::directional
