#include "interframe_difference/interframe_difference.h"

#include <optional>
#include <tuple>

#include "common/launch.cuh"

namespace dfops::difference {
namespace {

constexpr int kMostRows = 8;
constexpr int kClipThreads = 1024;                 // blocks that serve a whole clip or frame
constexpr int64_t kMostShared = int64_t(64) << 10;  // scratch beyond this goes to a workspace
constexpr int64_t kMostBlocks = 1 << 16, kMostBlocksWithWorkspace = 1024;

template <class scalar_t>
Clip<const scalar_t> clip_of(const Tensor& clip) {
  return {data<scalar_t>(clip), clip.size(1), clip.size(2), clip.size(3) * clip.size(4),
          clip_layout(clip) == ClipLayout::kChannelsLast};
}

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

template <class acc_t>
TileLaunch tile_launch(const Tensor& on, int64_t tiles, int64_t frames, int64_t scratch_rows) {
  const int64_t scratch = scratch_rows * kWarp, bytes = scratch * int64_t(sizeof(acc_t));
  TileLaunch result{int(min64(frames, kMostRows)), min64(tiles, kMostBlocks), bytes + 16, std::nullopt};
  if (bytes > kMostShared) {
    result.blocks = min64(tiles, kMostBlocksWithWorkspace);
    result.shared = 0;
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
  const TileLaunch tile = tile_launch<acc_t>(on, clips * ceil_div(query.positions, kWarp), query.frames,
                                             Body::scratch_rows(query.frames, query.channels));
  const int64_t stage = Body::stage_values(tile.rows) * int64_t(sizeof(acc_t)) + 16;
  launch(on, tile.blocks, tile.rows * kWarp, tile.shared + stage,
         Body{s, variance, out, query, key, tile.workspace_data<acc_t>(), clips, acc_t(min_variance), acc_t(fill)});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> interframe_difference_cuda(const Tensor& query, const Tensor& key,
                                                                      int64_t num_keep, bool strict, bool normalize,
                                                                      double eps, double min_variance) {
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t clips = query.size(0), frames = query.size(1), h = query.size(3), w = query.size(4);
  const ScalarType acc = accumulate_type(query.scalar_type());
  Tensor out = torch::stable::new_empty(query, {clips, frames, h, w});
  Tensor variance = torch::stable::new_empty(query, {clips, h, w}, acc);
  Tensor threshold = torch::stable::new_empty(query, {clips}, acc);
  Tensor positions = torch::stable::new_empty(query, {clips, strict ? int64_t(0) : num_keep}, ScalarType::Long);
  const Tensor s = torch::stable::new_empty(query, {clips, frames, h, w}, acc);
  const Tensor qs = as_clip(query, clip_layout(query)), ks = as_clip(key, clip_layout(key));
  dispatch(query, "interframe_difference", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    launch_map<scalar_t>(query, mutable_data<acc_t>(s), mutable_data<acc_t>(variance),
                         strict ? nullptr : mutable_data<scalar_t>(out), normalize ? 0.0 : -double(frames),
                         clip_of<scalar_t>(qs), clip_of<scalar_t>(ks), clips, min_variance);
    launch(query, clips, kClipThreads, SelectBody<scalar_t>::shared_bytes(),
           SelectBody<scalar_t>{mutable_data<acc_t>(threshold), strict ? nullptr : mutable_data<int64_t>(positions),
                                nullptr, mutable_data<scalar_t>(out), data<acc_t>(s), data<acc_t>(variance), frames,
                                h * w, num_keep, normalize, acc_t(eps)});
  });
  return {out, variance, threshold, positions};
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_cuda(const Tensor& query, const Tensor& key, int64_t num_keep,
                                                             bool normalize, double eps, double min_variance) {
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t clips = query.size(0), frames = query.size(1), count = query.size(3) * query.size(4);
  const ScalarType acc = accumulate_type(query.scalar_type());
  Tensor positions = torch::stable::new_empty(query, {clips, num_keep}, ScalarType::Long);
  Tensor values = torch::stable::new_empty(query, {clips, frames, num_keep});
  const Tensor s = torch::stable::new_empty(query, {clips, frames, count}, acc);
  const Tensor variance = torch::stable::new_empty(query, {clips, count}, acc);
  const Tensor threshold = torch::stable::new_empty(query, {clips}, acc);
  const Tensor qs = as_clip(query, clip_layout(query)), ks = as_clip(key, clip_layout(key));
  dispatch(query, "interframe_difference_sparse", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    launch_map<scalar_t>(query, mutable_data<acc_t>(s), mutable_data<acc_t>(variance), nullptr, 0.0,
                         clip_of<scalar_t>(qs), clip_of<scalar_t>(ks), clips, min_variance);
    launch(query, clips, kClipThreads, SelectBody<scalar_t>::shared_bytes(),
           SelectBody<scalar_t>{mutable_data<acc_t>(threshold), mutable_data<int64_t>(positions),
                                mutable_data<scalar_t>(values), nullptr, data<acc_t>(s), data<acc_t>(variance), frames,
                                count, num_keep, normalize, acc_t(eps)});
  });
  return {values, positions};  // a floating-point result first: torch.library.opcheck adds the results up
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
  if (normalize)
    launch_map<scalar_t>(on, mutable_data<acc_t>(s), nullptr, nullptr, 0.0, query, key, clips, 0.0);
  launch(on, query.positions == 0 ? 0 : clips * query.frames, 256, 0,
         GradSBody<scalar_t>{mutable_data<acc_t>(grad_s), grad, data<acc_t>(s), kept, query.frames, normalize,
                             acc_t(eps)});
  const TileLaunch tile = tile_launch<acc_t>(on, clips * ceil_div(query.positions, kWarp), query.frames,
                                             Body::scratch_rows(query.frames, query.channels));
  launch(on, tile.blocks, tile.rows * kWarp, tile.shared,
         Body{grad_query, grad_key, query, key, data<acc_t>(grad_s), kept, tile.workspace_data<acc_t>(), clips});
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_backward_cuda(const Tensor& grad, const Tensor& query,
                                                                      const Tensor& key, const Tensor& positions,
                                                                      bool normalize, double eps) {
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t clips = query.size(0), frames = query.size(1), channels = query.size(2), slots = query.size(3);
  Tensor grad_query = torch::stable::new_empty(query, {clips, frames, channels, slots});
  Tensor grad_key = torch::stable::new_empty(query, {clips, frames, channels, slots});
  const Tensor gs = torch::stable::contiguous(grad), qs = torch::stable::contiguous(query),
               ks = torch::stable::contiguous(key), ps = torch::stable::contiguous(positions);
  dispatch(query, "interframe_difference_sparse_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    launch_backward<scalar_t>(query, {mutable_data<scalar_t>(grad_query), frames, channels, slots, false},
                              {mutable_data<scalar_t>(grad_key), frames, channels, slots, false}, data<scalar_t>(gs),
                              {data<scalar_t>(qs), frames, channels, slots, false},
                              {data<scalar_t>(ks), frames, channels, slots, false},
                              {data<int64_t>(ps), nullptr, nullptr, slots}, clips, normalize, eps);
  });
  return {grad_query, grad_key};
}

std::tuple<Tensor, Tensor> interframe_difference_backward_cuda(const Tensor& grad, const Tensor& query,
                                                               const Tensor& key, const Tensor& variance,
                                                               const Tensor& threshold, bool normalize, double eps) {
  const torch::stable::accelerator::DeviceGuard guard(query.get_device_index());
  const int64_t clips = query.size(0), frames = query.size(1), channels = query.size(2),
                count = query.size(3) * query.size(4);
  const Tensor qs = as_clip(query, clip_layout(query)), ks = as_clip(key, clip_layout(key));
  const Tensor gs = torch::stable::contiguous(grad);
  Tensor grad_query = empty_clip(query, sizes_of(query), clip_layout(query), query.scalar_type());
  Tensor grad_key = empty_clip(key, sizes_of(key), clip_layout(key), key.scalar_type());
  dispatch(query, "interframe_difference_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const auto q = clip_of<scalar_t>(qs), k = clip_of<scalar_t>(ks);
    launch_backward<scalar_t>(query, {mutable_data<scalar_t>(grad_query), frames, channels, count, q.channels_last},
                              {mutable_data<scalar_t>(grad_key), frames, channels, count, k.channels_last},
                              data<scalar_t>(gs), q, k, {nullptr, data<acc_t>(variance), data<acc_t>(threshold), count},
                              clips, normalize, eps);
  });
  return {grad_query, grad_key};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("interframe_difference", TORCH_BOX(&interframe_difference_cuda));
  m.impl("interframe_difference_sparse", TORCH_BOX(&interframe_difference_sparse_cuda));
  m.impl("_interframe_difference_backward", TORCH_BOX(&interframe_difference_backward_cuda));
  m.impl("_interframe_difference_sparse_backward", TORCH_BOX(&interframe_difference_sparse_backward_cuda));
}

}  // namespace dfops::difference
