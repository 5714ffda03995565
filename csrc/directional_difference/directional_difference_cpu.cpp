#include <tuple>

#include "directional_difference/directional_difference_host.h"
#include "directional_difference/directional_difference_loops.h"

namespace dfops::directional {
namespace {

// Elements of x a thread takes at a time, and of a frame a piece.
constexpr int64_t kGrain = 32768, kPiece = 32768;

Tensor directional_difference_cpu(const Tensor& x, const Tensor& weight, int64_t axis) {
  const ForwardCall call(x, weight, axis);
  if (x.numel() == 0) return call.out;
  const Strips strips = clip_strips(sizes_of(x), call.layout, axis);
  const Planes planes(x.size(0), x.size(1), strips);
  const Pieces pieces(planes, kPiece);
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    const Weight<acc_type<scalar_t>> w(data<scalar_t>(call.weight), weight.size(1), strips, planes, false);
    torch::stable::parallel_for(
        0, pieces.count, ceil_div(kGrain, pieces.rows * planes.inner * planes.frames), [&](int64_t begin, int64_t end) {
          forward_range(mutable_data<scalar_t>(call.out), data<scalar_t>(call.x), w, planes, pieces, begin, end);
        });
  });
  return call.out;
}

std::tuple<Tensor, Tensor> directional_difference_backward_cpu(const Tensor& grad, const Tensor& x,
                                                               const Tensor& weight, int64_t axis, bool need_x,
                                                               bool need_weight) {
  const BackwardCall call(grad, x, weight, axis, need_x, need_weight);
  if (call.finished) return call.results();
  const Strips strips = clip_strips(sizes_of(x), call.layout, axis);
  const Planes planes(x.size(0), x.size(1), strips);
  const Pieces pieces(planes, kPiece);
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const Weight<acc_t> flipped(data<scalar_t>(call.weight), weight.size(1), strips, planes, true);
    // chunks are of one size whatever the number of threads, so the sums for the weight always have the same order;
    // they are large enough for their partial sums to be small beside the data
    const int64_t shares = need_weight ? weight.numel() : 0, elements = kGrain > 8 * shares ? kGrain : 8 * shares;
    const int64_t chunk = ceil_div(pieces.count, min64(128, ceil_div(x.numel(), elements)));
    const int64_t chunks = ceil_div(pieces.count, chunk);
    std::vector<acc_t> partial(chunks * shares);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        backward_range(need_x ? mutable_data<scalar_t>(call.grad_x) : nullptr,
                       need_weight ? partial.data() + i * shares : nullptr, data<scalar_t>(call.grad),
                       data<scalar_t>(call.x), flipped, planes, pieces, i * chunk,
                       min64(pieces.count, (i + 1) * chunk));
    });
    for (int64_t i = 0; i < shares; ++i) {
      acc_t total = 0;
      for (int64_t j = 0; j < chunks; ++j) total += partial[j * shares + i];
      mutable_data<scalar_t>(call.grad_weight)[i] = scalar_t(total);
    }
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("directional_difference", TORCH_BOX(&directional_difference_cpu));
  m.impl("_directional_difference_backward", TORCH_BOX(&directional_difference_backward_cpu));
}

}  // namespace dfops::directional
