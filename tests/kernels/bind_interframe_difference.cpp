#include "arrays.h"
#include "interframe_difference/interframe_difference_blocks.h"
#include "interframe_difference/interframe_difference_loops.h"

namespace dfops::difference {
namespace {

// A clip from NumPy: (B, T, C, P), or (B, T, P, C) where channels are last.
template <class T>
Clip<const T> clip_of(const Array<T>& clip, bool channels_last) {
  return {clip.data(), clip.shape(1), clip.shape(channels_last ? 3 : 2), clip.shape(channels_last ? 2 : 3),
          channels_last};
}

// The CPU loops, in blocks of `block` tiles.
template <class T>
py::tuple map(Array<T> query, Array<T> key, bool query_last, bool key_last, T min_variance, int64_t block_tiles) {
  const Clip<const T> q = clip_of(query, query_last), k = clip_of(key, key_last);
  const int64_t clips = query.shape(0), block = block_tiles * kLanes<T>;
  Output<T> s({clips, q.frames, q.positions}), variance({clips, q.positions});
  MapScratch<T> scratch(q.frames, q.channels, block);
  for (int64_t b = 0; b < clips; ++b)
    for (int64_t first = 0; first < q.positions; first += block)
      map_range(s.data(), variance.data(), q, k, min_variance, b, first, min64(q.positions, first + block), scratch);
  return py::make_tuple(s.take("s"), variance.take("variance"));
}

template <class T>
py::tuple block_map(Array<T> query, Array<T> key, bool query_last, bool key_last, T min_variance, T fill, int rows,
                    int64_t blocks, bool in_workspace, unsigned seed) {
  const Clip<const T> q = clip_of(query, query_last), k = clip_of(key, key_last);
  const int64_t clips = query.shape(0), scratch = MapBody<T>::scratch_rows(q.frames, q.channels) * kWarp;
  Output<T> s({clips, q.frames, q.positions}), variance({clips, q.positions}), out({clips, q.frames, q.positions});
  Output<T> workspace({in_workspace ? blocks * scratch : 0});
  const int64_t bytes =
      (in_workspace ? 0 : scratch * int64_t(sizeof(T)) + 16) + MapBody<T>::stage_values(rows) * int64_t(sizeof(T)) + 16;
  launch_on_host(blocks, rows * kWarp, bytes, seed,
                 MapBody<T>{s.data(), variance.data(), out.data(), q, k, in_workspace ? workspace.data() : nullptr,
                            clips, min_variance, fill});
  workspace.take("workspace");
  return py::make_tuple(s.take("s"), variance.take("variance"), out.take("out"));
}

// One clip: threshold and positions.
template <class T>
py::tuple select(Array<T> variance, int64_t num_keep) {
  Output<int64_t> positions({num_keep});
  std::vector<int64_t> above;
  const T threshold = select_threshold(variance.data(), variance.size(), num_keep, above);
  fill_slots(positions.data(), num_keep, variance.data(), threshold, above);
  return py::make_tuple(threshold, positions.take("positions"));
}

// The dense map and, under "le", the values of one clip.
template <class T>
py::tuple finish(Array<T> s, Array<T> variance, T threshold, Array<int64_t> positions, bool strict, bool normalize,
                 T eps) {
  const int64_t frames = s.shape(0), count = s.shape(1), num_keep = positions.size();
  Output<T> out({frames, count}), values({frames, num_keep});
  std::vector<T> kept(num_keep);
  for (int64_t t = 0; t < frames; ++t) {
    const T* const row = s.data() + t * count;
    if (strict || threshold != threshold)
      out_of_frame(out.data() + t * count, row, variance.data(), count, threshold, strict, normalize, T(frames), eps);
    else
      out_of_slots(out.data() + t * count, row, count, positions.data(), num_keep, normalize, T(frames), eps,
                   kept.data());
    values_of_frame(values.data() + t * num_keep, row, positions.data(), num_keep, threshold, normalize, T(frames),
                    eps);
  }
  return py::make_tuple(out.take("out"), values.take("values"));
}

// All clips: threshold, positions, values, out; out starts as `out` where positions are wanted.
template <class T>
py::tuple block_select(Array<T> s, Array<T> variance, Array<T> filled, int64_t num_keep, bool strict, bool normalize,
                       T eps, int threads, unsigned seed) {
  const int64_t clips = s.shape(0), frames = s.shape(1), count = s.shape(2);
  Output<T> threshold({clips}), values({clips, frames, strict ? 0 : num_keep}), out({clips, frames, count});
  Output<int64_t> positions({clips, strict ? 0 : num_keep});
  if (!strict && s.size() > 0) std::memcpy(out.data(), filled.data(), s.size() * sizeof(T));
  launch_on_host(clips, threads, SelectBody<T>::shared_bytes(), seed,
                 SelectBody<T>{threshold.data(), strict ? nullptr : positions.data(), strict ? nullptr : values.data(),
                               out.data(), s.data(), variance.data(), frames, count, num_keep, normalize, eps});
  return py::make_tuple(threshold.take("threshold"), positions.take("positions"), values.take("values"),
                        out.take("out"));
}

// One clip's slots (T, C, N), the first `used` of them kept, from grad (T, N).
template <class T>
py::tuple slots_backward(Array<T> grad, Array<T> query, Array<T> key, int64_t used, bool all_kept, bool normalize,
                         T eps) {
  const int64_t frames = query.shape(0), channels = query.shape(1), slots = query.shape(2);
  Output<T> gq(shape_of(query)), gk(shape_of(key)), s({frames, slots}), grad_s({frames, slots});
  MapScratch<T> map_scratch(frames, channels, (slots / kLanes<T> + 1) * kLanes<T>);
  if (slots > 0)
    map_range<T>(s.data(), nullptr, {query.data(), frames, channels, slots, false},
                 {key.data(), frames, channels, slots, false}, 0, 0, 0, slots, map_scratch);
  for (int64_t t = 0; t < frames; ++t)
    grad_s_of_frame(grad_s.data() + t * slots, grad.data() + t * slots, s.data() + t * slots, used, slots, all_kept,
                    normalize, T(frames), eps);
  GradScratch<T> scratch(frames, channels);
  for (int64_t first = 0; first < slots; first += kLanes<T>)
    slots_backward_tile(gq.data(), gk.data(), grad_s.data(), query.data(), key.data(), frames, channels, slots, used,
                        first, scratch);
  return py::make_tuple(gq.take("grad_query"), gk.take("grad_key"));
}

// All clips; kept by `positions` (B, P) >= 0, or by variance >= threshold where `strict`.
template <class T>
py::tuple block_backward(Array<T> grad, Array<T> s, Array<T> query, Array<T> key, bool query_last, bool key_last,
                         Array<int64_t> positions, Array<T> variance, Array<T> threshold, bool strict, bool normalize,
                         T eps, int rows, int64_t blocks, bool in_workspace, unsigned seed) {
  const Clip<const T> q = clip_of(query, query_last), k = clip_of(key, key_last);
  const int64_t clips = query.shape(0), scratch = GradBody<T>::scratch_rows(q.frames, q.channels) * kWarp;
  const Kept<T> kept{strict ? nullptr : positions.data(), variance.data(), threshold.data(), q.positions};
  Output<T> gq(shape_of(query)), gk(shape_of(key)), grad_s(shape_of(s));
  Output<T> workspace({in_workspace ? blocks * scratch : 0});
  launch_on_host(clips * q.frames, 64, 0, seed,
                 GradSBody<T>{grad_s.data(), grad.data(), s.data(), kept, q.frames, normalize, eps});
  launch_on_host(blocks, rows * kWarp, in_workspace ? 0 : scratch * int64_t(sizeof(T)) + 16, seed,
                 GradBody<T>{{gq.data(), q.frames, q.channels, q.positions, query_last},
                             {gk.data(), q.frames, q.channels, q.positions, key_last},
                             q,
                             k,
                             grad_s.data(),
                             kept,
                             in_workspace ? workspace.data() : nullptr,
                             clips});
  grad_s.take("grad_s");
  workspace.take("workspace");
  return py::make_tuple(gq.take("grad_query"), gk.take("grad_key"));
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("difference_map_" + type).c_str(), &map<T>);
  m.def(("difference_block_map_" + type).c_str(), &block_map<T>);
  m.def(("difference_select_" + type).c_str(), &select<T>);
  m.def(("difference_finish_" + type).c_str(), &finish<T>);
  m.def(("difference_block_select_" + type).c_str(), &block_select<T>);
  m.def(("difference_slots_backward_" + type).c_str(), &slots_backward<T>);
  m.def(("difference_block_backward_" + type).c_str(), &block_backward<T>);
}

}  // namespace dfops::difference

void bind_interframe_difference(pybind11::module_& m) {
  dfops::difference::bind<float>(m, "float32");
  dfops::difference::bind<double>(m, "float64");
}
