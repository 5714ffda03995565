// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <limits>
#include <tuple>

#include "common/tensor.h"
#include "interframe_difference/interframe_difference.h"

namespace dfops::difference {

template <class scalar_t>
Clip<const scalar_t> clip_of(const Tensor& clip) {
  return {data<scalar_t>(clip), clip.size(1), clip.size(2), clip.size(3) * clip.size(4),
          clip_layout(clip) == ClipLayout::kChannelsLast};
}
template <class scalar_t>
Clip<scalar_t> mutable_clip_of(const Tensor& clip) {
  return {mutable_data<scalar_t>(clip), clip.size(1), clip.size(2), clip.size(3) * clip.size(4),
          clip_layout(clip) == ClipLayout::kChannelsLast};
}

// Query and key as the kernels read them.
struct Clips {
  Tensor query, key;
  int64_t clips, frames, channels, height, width;

  Clips(const Tensor& q, const Tensor& k)
      : query(checked(q, k)),
        key(as_clip(k, clip_layout(k))),
        clips(q.size(0)),
        frames(q.size(1)),
        channels(q.size(2)),
        height(q.size(3)),
        width(q.size(4)) {}

  int64_t count() const { return height * width; }
  ScalarType accumulated() const { return accumulate_type(query.scalar_type()); }

 private:
  static Tensor checked(const Tensor& query, const Tensor& key) {
    check_clip("query", query);
    check_like("key", key, "query", query);
    // blocks count positions in 32 bits
    const int64_t most = std::numeric_limits<int32_t>::max();
    STD_TORCH_CHECK(query.size(3) <= most && query.size(4) <= most && query.size(3) * query.size(4) <= most,
                    "query must have at most 2^31 - 1 positions a frame, got shape ", in_words(sizes_of(query)));
    return as_clip(query, clip_layout(query));
  }
};

struct ForwardCall : Clips {
  Tensor out, variance, threshold, positions;

  ForwardCall(const Tensor& q, const Tensor& k, int64_t num_keep, bool strict)
      : Clips(q, k),
        out(torch::stable::new_empty(q, {clips, frames, height, width})),
        variance(torch::stable::new_empty(q, {clips, height, width}, accumulated())),
        threshold(torch::stable::new_empty(q, {clips}, accumulated())),
        positions(torch::stable::new_empty(q, {clips, checked(num_keep, strict)}, ScalarType::Long)) {}

 private:
  // The number of slots.
  int64_t checked(int64_t num_keep, bool strict) const {
    STD_TORCH_CHECK(frames >= 2, "query must have at least 2 frames for a variance over time, got ", frames);
    STD_TORCH_CHECK(count() == 0 ? num_keep >= 0 : num_keep >= 1 && num_keep <= count(),
                    "num_keep must lie in [1, H * W = ", count(), "], got ", num_keep);
    return strict ? 0 : num_keep;
  }
};

struct SparseCall : ForwardCall {
  Tensor values;

  SparseCall(const Tensor& q, const Tensor& k, int64_t num_keep)
      : ForwardCall(q, k, num_keep, false), values(torch::stable::new_empty(q, {clips, frames, num_keep})) {}
};

// The gradient is that of a map (B, T, H, W).
struct BackwardCall : Clips {
  Tensor grad, variance, threshold, grad_query, grad_key;

  BackwardCall(const Tensor& all, const Tensor& q, const Tensor& k, const Tensor& kept_variance,
               const Tensor& kept_threshold)
      : Clips(q, k),
        grad(all),
        variance(kept_variance),
        threshold(kept_threshold),
        grad_query(empty_clip(q, sizes_of(q), clip_layout(q), q.scalar_type())),
        grad_key(empty_clip(k, sizes_of(k), clip_layout(k), k.scalar_type())) {
    check_sizes("grad", grad, "(B, T, H, W)", {clips, frames, height, width});
    check_kind("grad", grad, "query", q);
    check_sizes("variance", variance, "(B, H, W)", {clips, height, width});
    check_accumulated("variance", variance, "query", q);
    check_sizes("threshold", threshold, "(B,)", {clips});
    check_accumulated("threshold", threshold, "query", q);
    for (Tensor* tensor : {&grad, &variance, &threshold}) *tensor = torch::stable::contiguous(*tensor);
  }
};

// Everything has one entry a slot.
struct SlotsCall {
  Tensor grad, query, key, positions, grad_query, grad_key;
  int64_t clips, frames, channels, slots;

  SlotsCall(const Tensor& all, const Tensor& q, const Tensor& k, const Tensor& kept)
      : grad(all),
        query(checked(all, q, k, kept)),
        key(torch::stable::contiguous(k)),
        positions(torch::stable::contiguous(kept)),
        grad_query(torch::stable::new_empty(q, sizes_of(q))),
        grad_key(torch::stable::new_empty(k, sizes_of(k))),
        clips(q.size(0)),
        frames(q.size(1)),
        channels(q.size(2)),
        slots(q.size(3)) {
    grad = torch::stable::contiguous(all);
  }

 private:
  static Tensor checked(const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& positions) {
    check_floating("query", query);
    check_axes("query", query, "(B, T, C, num_keep)");
    check_like("key", key, "query", query);
    check_sizes("grad", grad, "(B, T, num_keep)", {query.size(0), query.size(1), query.size(3)});
    check_kind("grad", grad, "query", query);
    check_index("positions", positions, "query", query);
    check_sizes("positions", positions, "(B, num_keep)", {query.size(0), query.size(3)});
    return torch::stable::contiguous(query);
  }
};

}  // namespace dfops::difference
