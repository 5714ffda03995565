#include <optional>
#include <tuple>

#include "common/launch.cuh"
#include "interframe_difference/interframe_difference_blocks.h"
#include "interframe_difference/interframe_difference_host.h"

namespace dfops::difference {
namespace {

constexpr int kMostRows = 8;
constexpr int kClipThreads = 1024;  // blocks that serve a whole clip or frame
constexpr int64_t kMostBlocks = 1 << 16, kMostBlocksWithWorkspace = 1024;

// Grid, shared memory and workspace of a body that works on tiles of positions.
struct TileLaunch {
  int rows;
  int64_t blocks, shared;
  std::optional<Tensor> workspace;

  template <class acc_t>
  acc_t* workspace_data() const {
    return workspace ? mutable_data<acc_t>(*workspace) : nullptr;
  }
};

// `fixed` bytes of shared memory are asked for beside the scratch, wherever that lies.
template <class acc_t>
TileLaunch tile_launch(const Tensor& on, int64_t tiles, int64_t frames, int64_t scratch_rows, int64_t fixed) {
  const int64_t scratch = scratch_rows * kWarp, bytes = scratch * int64_t(sizeof(acc_t)) + 16 + fixed;
  TileLaunch result{int(min64(frames, kMostRows)), min64(tiles, kMostBlocks), bytes, std::nullopt};
  if (bytes > kMostSharedBytes) {
    result.blocks = min64(tiles, kMostBlocksWithWorkspace);
    result.shared = fixed;
    result.workspace = torch::stable::new_empty(on, {result.blocks * scratch}, accumulate_type(on.scalar_type()));
  }
  return result;
}

template <class scalar_t>
void launch_map(const Tensor& on, acc_type<scalar_t>* s, acc_type<scalar_t>* variance, scalar_t* out, double fill,
                const Clip<const scalar_t>& query, const Clip<const scalar_t>& key, int64_t clips,
                double min_variance) {
  using acc_t = acc_type<scalar_t>;
  using Body = MapBody<scalar_t>;
  const int64_t stage = Body::stage_values(int(min64(query.frames, kMostRows))) * int64_t(sizeof(acc_t)) + 16;
  const TileLaunch tile = tile_launch<acc_t>(on, clips * ceil_div(query.positions, kWarp), query.frames,
                                             Body::scratch_rows(query.frames, query.channels), stage);
  launch(on, tile.blocks, tile.rows * kWarp, tile.shared,
         Body{s, variance, out, query, key, tile.workspace_data<acc_t>(), clips, acc_t(min_variance), acc_t(fill)});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> interframe_difference_cuda(const Tensor& query, const Tensor& key,
                                                                      int64_t num_keep, bool strict, bool normalize,
                                                                      double eps, double min_variance) {
  const ForwardCall call(query, key, num_keep, strict);
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t frames = call.frames;
  const Tensor s = torch::stable::new_empty(query, sizes_of(call.out), call.accumulated());
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    launch_map<scalar_t>(query, mutable_data<acc_t>(s), mutable_data<acc_t>(call.variance),
                         strict ? nullptr : mutable_data<scalar_t>(call.out), normalize ? 0.0 : -double(frames),
                         clip_of<scalar_t>(call.query), clip_of<scalar_t>(call.key), call.clips, min_variance);
    launch(query, call.clips, kClipThreads, SelectBody<scalar_t>::shared_bytes(),
           SelectBody<scalar_t>{mutable_data<acc_t>(call.threshold),
                                strict ? nullptr : mutable_data<int64_t>(call.positions), nullptr,
                                mutable_data<scalar_t>(call.out), data<acc_t>(s), data<acc_t>(call.variance), frames,
                                call.count(), num_keep, normalize, acc_t(eps)});
  });
  return {call.out, call.variance, call.threshold, call.positions};
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_cuda(const Tensor& query, const Tensor& key, int64_t num_keep,
                                                             bool normalize, double eps, double min_variance) {
  const SparseCall call(query, key, num_keep);
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const Tensor s = torch::stable::new_empty(query, {call.clips, call.frames, call.count()}, call.accumulated());
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    launch_map<scalar_t>(query, mutable_data<acc_t>(s), mutable_data<acc_t>(call.variance), nullptr, 0.0,
                         clip_of<scalar_t>(call.query), clip_of<scalar_t>(call.key), call.clips, min_variance);
    launch(
        query, call.clips, kClipThreads, SelectBody<scalar_t>::shared_bytes(),
        SelectBody<scalar_t>{mutable_data<acc_t>(call.threshold), mutable_data<int64_t>(call.positions),
                             mutable_data<scalar_t>(call.values), nullptr, data<acc_t>(s), data<acc_t>(call.variance),
                             call.frames, call.count(), num_keep, normalize, acc_t(eps)});
  });
  return {call.values, call.positions};  // a floating-point result first: torch.library.opcheck adds the results up
}

// s again, its gradient, then the gradients of query and key.
template <class scalar_t>
void launch_backward(const Tensor& on, const Clip<scalar_t>& grad_query, const Clip<scalar_t>& grad_key,
                     const scalar_t* grad, const Clip<const scalar_t>& query, const Clip<const scalar_t>& key,
                     const Kept<acc_type<scalar_t>>& kept, int64_t clips, bool normalize, double eps) {
  using acc_t = acc_type<scalar_t>;
  using Body = GradBody<scalar_t>;
  const int64_t numel = clips * query.frames * query.positions;
  const ScalarType acc = accumulate_type(on.scalar_type());
  const Tensor s = torch::stable::new_empty(on, {numel}, acc), grad_s = torch::stable::new_empty(on, {numel}, acc);
  if (normalize) launch_map<scalar_t>(on, mutable_data<acc_t>(s), nullptr, nullptr, 0.0, query, key, clips, 0.0);
  launch(on, query.positions == 0 ? 0 : clips * query.frames, 256, 0,
         GradSBody<scalar_t>{mutable_data<acc_t>(grad_s), grad, data<acc_t>(s), kept, query.frames, normalize,
                             acc_t(eps)});
  const TileLaunch tile = tile_launch<acc_t>(on, clips * ceil_div(query.positions, kWarp), query.frames,
                                             Body::scratch_rows(query.frames, query.channels), 0);
  launch(on, tile.blocks, tile.rows * kWarp, tile.shared,
         Body{grad_query, grad_key, query, key, data<acc_t>(grad_s), kept, tile.workspace_data<acc_t>(), clips});
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_backward_cuda(const Tensor& grad, const Tensor& query,
                                                                      const Tensor& key, const Tensor& positions,
                                                                      bool normalize, double eps) {
  const SlotsCall call(grad, query, key, positions);
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t frames = call.frames, channels = call.channels, slots = call.slots;
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    launch_backward<scalar_t>(query, {mutable_data<scalar_t>(call.grad_query), frames, channels, slots, false},
                              {mutable_data<scalar_t>(call.grad_key), frames, channels, slots, false},
                              data<scalar_t>(call.grad), {data<scalar_t>(call.query), frames, channels, slots, false},
                              {data<scalar_t>(call.key), frames, channels, slots, false},
                              {data<int64_t>(call.positions), nullptr, nullptr, slots}, call.clips, normalize, eps);
  });
  return {call.grad_query, call.grad_key};
}

std::tuple<Tensor, Tensor> interframe_difference_backward_cuda(const Tensor& grad, const Tensor& query,
                                                               const Tensor& key, const Tensor& variance,
                                                               const Tensor& threshold, bool normalize, double eps) {
  const BackwardCall call(grad, query, key, variance, threshold);
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    launch_backward<scalar_t>(
        query, mutable_clip_of<scalar_t>(call.grad_query), mutable_clip_of<scalar_t>(call.grad_key),
        data<scalar_t>(call.grad), clip_of<scalar_t>(call.query), clip_of<scalar_t>(call.key),
        {nullptr, data<acc_t>(call.variance), data<acc_t>(call.threshold), call.count()}, call.clips, normalize, eps);
  });
  return {call.grad_query, call.grad_key};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("interframe_difference", TORCH_BOX(&interframe_difference_cuda));
  m.impl("interframe_difference_sparse", TORCH_BOX(&interframe_difference_sparse_cuda));
  m.impl("_interframe_difference_backward", TORCH_BOX(&interframe_difference_backward_cuda));
  m.impl("_interframe_difference_sparse_backward", TORCH_BOX(&interframe_difference_sparse_backward_cuda));
}

}  // namespace dfops::difference
