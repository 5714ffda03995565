#include <memory>
#include <tuple>

#include "interframe_difference/interframe_difference_host.h"
#include "interframe_difference/interframe_difference_loops.h"

namespace dfops::difference {
namespace {

constexpr int64_t kGrainValues = 32768;  // values one task is worth

// s (B, T, P) and, unless null, variance (B, P).
template <class scalar_t>
void map(acc_type<scalar_t>* s, acc_type<scalar_t>* variance, const Clip<const scalar_t>& query,
         const Clip<const scalar_t>& key, int64_t clips, acc_type<scalar_t> min_variance) {
  const int64_t block = block_positions<acc_type<scalar_t>>(query.channels, query.positions, clips);
  const int64_t blocks = ceil_div(query.positions, block);
  const int64_t grain = ceil_div(kGrainValues, block * query.frames * (query.channels + 1));
  torch::stable::parallel_for(0, clips * blocks, grain, [&](int64_t begin, int64_t end) {
    MapScratch<acc_type<scalar_t>> scratch(query.frames, query.channels, block);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * block;
      map_range(s, variance, query, key, min_variance, i / blocks, first, min64(query.positions, first + block),
                scratch);
    }
  });
}

// threshold (B,) and, unless null, positions (B, num_keep).
template <class acc_t>
void select(acc_t* threshold, int64_t* positions, const acc_t* variance, int64_t clips, int64_t count,
            int64_t num_keep) {
  torch::stable::parallel_for(0, clips, 1, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> above;
    for (int64_t b = begin; b < end; ++b) {
      threshold[b] = count == 0 ? acc_t(0) : select_threshold(variance + b * count, count, num_keep, above);
      if (positions != nullptr)
        fill_slots(positions + b * num_keep, num_keep, variance + b * count, threshold[b], above);
    }
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> interframe_difference_cpu(const Tensor& query, const Tensor& key,
                                                                     int64_t num_keep, bool strict, bool normalize,
                                                                     double eps, double min_variance) {
  const ForwardCall call(query, key, num_keep, strict);
  const int64_t clips = call.clips, frames = call.frames, count = call.count();
  // s lies in `out` until its frame is finished, where the types allow
  const Tensor s = call.accumulated() == query.scalar_type()
                       ? call.out
                       : torch::stable::new_empty(query, sizes_of(call.out), call.accumulated());
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const acc_t* const variance = data<acc_t>(call.variance);
    map(mutable_data<acc_t>(s), mutable_data<acc_t>(call.variance), clip_of<scalar_t>(call.query),
        clip_of<scalar_t>(call.key), clips, acc_t(min_variance));
    int64_t* const slots = strict ? nullptr : mutable_data<int64_t>(call.positions);
    select(mutable_data<acc_t>(call.threshold), slots, variance, clips, count, num_keep);
    torch::stable::parallel_for(0, clips * frames, ceil_div(kGrainValues, count + 1), [&](int64_t begin, int64_t end) {
      std::vector<acc_t> kept(strict ? 0 : num_keep);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / frames;
        scalar_t* const row = mutable_data<scalar_t>(call.out) + i * count;
        const acc_t* const s_row = data<acc_t>(s) + i * count;
        const acc_t limit = data<acc_t>(call.threshold)[b];
        if (strict || limit != limit)
          out_of_frame(row, s_row, variance + b * count, count, limit, strict, normalize, acc_t(frames), acc_t(eps));
        else
          out_of_slots(row, s_row, count, slots + b * num_keep, num_keep, normalize, acc_t(frames), acc_t(eps),
                       kept.data());
      }
    });
  });
  return {call.out, call.variance, call.threshold, call.positions};
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_cpu(const Tensor& query, const Tensor& key, int64_t num_keep,
                                                            bool normalize, double eps, double min_variance) {
  const SparseCall call(query, key, num_keep);
  const int64_t clips = call.clips, frames = call.frames, count = call.count();
  const Tensor s = torch::stable::new_empty(query, {clips, frames, count}, call.accumulated());
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    map(mutable_data<acc_t>(s), mutable_data<acc_t>(call.variance), clip_of<scalar_t>(call.query),
        clip_of<scalar_t>(call.key), clips, acc_t(min_variance));
    acc_t* const threshold = mutable_data<acc_t>(call.threshold);
    select(threshold, mutable_data<int64_t>(call.positions), data<acc_t>(call.variance), clips, count, num_keep);
    for (int64_t i = 0; i < clips * frames; ++i)
      values_of_frame(mutable_data<scalar_t>(call.values) + i * num_keep, data<acc_t>(s) + i * count,
                      data<int64_t>(call.positions) + i / frames * num_keep, num_keep, threshold[i / frames], normalize,
                      acc_t(frames), acc_t(eps));
  });
  return {call.values, call.positions};  // a floating-point result first: torch.library.opcheck adds the results up
}

// Gradients of one clip's slots (T, C, slots) from grad (T, slots).
template <class scalar_t>
void slots_backward(scalar_t* grad_query, scalar_t* grad_key, const scalar_t* grad, const scalar_t* query,
                    const scalar_t* key, int64_t frames, int64_t channels, int64_t slots, int64_t used, bool all_kept,
                    bool normalize, acc_type<scalar_t> eps) {
  using acc_t = acc_type<scalar_t>;
  std::vector<acc_t> s(frames * slots), upstream(slots), grad_s(frames * slots);
  // the s of the forward pass, bit by bit: the same loop over the same vectors
  if (normalize)
    map<scalar_t>(s.data(), nullptr, {query, frames, channels, slots, false}, {key, frames, channels, slots, false}, 1,
                  0);
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t j = 0; j < slots; ++j) upstream[j] = acc_t(grad[t * slots + j]);
    grad_s_of_frame(grad_s.data() + t * slots, upstream.data(), s.data() + t * slots, used, slots, all_kept, normalize,
                    acc_t(frames), eps);
  }
  const int64_t grain = ceil_div(kGrainValues, kLanes<acc_t> * frames * (channels + 1));
  torch::stable::parallel_for(0, ceil_div(slots, kLanes<acc_t>), grain, [&](int64_t begin, int64_t end) {
    GradScratch<acc_t> scratch(frames, channels);
    for (int64_t i = begin; i < end; ++i)
      slots_backward_tile(grad_query, grad_key, grad_s.data(), query, key, frames, channels, slots, used,
                          i * kLanes<acc_t>, scratch);
  });
}

std::tuple<Tensor, Tensor> interframe_difference_sparse_backward_cpu(const Tensor& grad, const Tensor& query,
                                                                     const Tensor& key, const Tensor& positions,
                                                                     bool normalize, double eps) {
  const SlotsCall call(grad, query, key, positions);
  const int64_t frames = call.frames, channels = call.channels, slots = call.slots;
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    for (int64_t b = 0; b < call.clips; ++b) {
      const int64_t* const first = data<int64_t>(call.positions) + b * slots;
      const int64_t used = std::find(first, first + slots, int64_t(-1)) - first;
      const int64_t clip = b * frames * channels * slots;
      slots_backward(mutable_data<scalar_t>(call.grad_query) + clip, mutable_data<scalar_t>(call.grad_key) + clip,
                     data<scalar_t>(call.grad) + b * frames * slots, data<scalar_t>(call.query) + clip,
                     data<scalar_t>(call.key) + clip, frames, channels, slots, used, false, normalize,
                     acc_type<scalar_t>(eps));
    }
  });
  return {call.grad_query, call.grad_key};
}

// The vectors at `kept` of clip b, (T, C, kept).
template <class scalar_t>
void gather(scalar_t* slots, const Clip<const scalar_t>& clip, int64_t b, const std::vector<int64_t>& kept) {
  for (int64_t row = 0; row < clip.frames * clip.channels; ++row) {
    const scalar_t* from = clip.frame(b, row / clip.channels) + row % clip.channels * clip.channel_step();
    for (const int64_t p : kept) *slots++ = from[p * clip.position_step()];
  }
}

template <class scalar_t>
void scatter(const Clip<scalar_t>& clip, const scalar_t* slots, int64_t b, const std::vector<int64_t>& kept) {
  std::fill(clip.frame(b, 0), clip.frame(b + 1, 0), scalar_t(0.0f));
  for (int64_t row = 0; row < clip.frames * clip.channels; ++row) {
    scalar_t* to = clip.frame(b, row / clip.channels) + row % clip.channels * clip.channel_step();
    for (const int64_t p : kept) to[p * clip.position_step()] = *slots++;
  }
}

// Rule "lt": any number of survivors, gathered into slots clip by clip.
std::tuple<Tensor, Tensor> interframe_difference_backward_cpu(const Tensor& grad, const Tensor& query,
                                                              const Tensor& key, const Tensor& variance,
                                                              const Tensor& threshold, bool normalize, double eps) {
  const BackwardCall call(grad, query, key, variance, threshold);
  const int64_t frames = call.frames, channels = call.channels, count = call.count();
  dispatch(query, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const auto q = clip_of<scalar_t>(call.query), k = clip_of<scalar_t>(call.key);
    const auto to_query = mutable_clip_of<scalar_t>(call.grad_query), to_key = mutable_clip_of<scalar_t>(call.grad_key);
    std::vector<int64_t> kept;
    for (int64_t b = 0; b < call.clips; ++b) {
      kept.clear();
      for (int64_t p = 0; p < count; ++p)
        if (!is_masked(data<acc_t>(call.variance)[b * count + p], data<acc_t>(call.threshold)[b], true))
          kept.push_back(p);
      const int64_t slots = int64_t(kept.size()), numel = frames * channels * slots;
      std::unique_ptr<scalar_t[]> q_slots(new scalar_t[numel]), k_slots(new scalar_t[numel]), gq(new scalar_t[numel]),
          gk(new scalar_t[numel]), upstream(new scalar_t[frames * slots]);
      gather(q_slots.get(), q, b, kept);
      gather(k_slots.get(), k, b, kept);
      gather(upstream.get(), {data<scalar_t>(call.grad), frames, 1, count, false}, b, kept);
      slots_backward(gq.get(), gk.get(), upstream.get(), q_slots.get(), k_slots.get(), frames, channels, slots, slots,
                     slots == count, normalize, acc_t(eps));
      scatter(to_query, gq.get(), b, kept);
      scatter(to_key, gk.get(), b, kept);
    }
  });
  return {call.grad_query, call.grad_key};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("interframe_difference", TORCH_BOX(&interframe_difference_cpu));
  m.impl("interframe_difference_sparse", TORCH_BOX(&interframe_difference_sparse_cpu));
  m.impl("_interframe_difference_backward", TORCH_BOX(&interframe_difference_backward_cpu));
  m.impl("_interframe_difference_sparse_backward", TORCH_BOX(&interframe_difference_sparse_backward_cpu));
}

}  // namespace dfops::difference
