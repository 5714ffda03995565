#include <pybind11/stl.h>

#include "arrays.h"
#include "latent_augment/latent_augment_blocks.h"
#include "latent_augment/latent_augment_loops.h"

namespace dfops::augment {
namespace {

// How a test describes a call: the memory of maps is a flat array; an empty array stands for an argument left out.
template <class T>
struct Call {
  Sizes sizes;
  Draws<T> draws;
  int64_t halves;

  Call(const std::vector<int64_t>& shape, bool channels_last, bool per_channel, const Array<int64_t>& choice,
       const Array<T>& lam, const Array<T>& sigma, const Array<T>& angle, const Array<int64_t>& perm,
       const Array<T>& mix_lam, bool has_noise, bool given_centroid)
      : sizes{shape[0], shape[1], shape[2], shape[3], shape[4], channels_last, per_channel},
        draws{choice.data(),    lam.data(), or_null(sigma), or_null(angle),           or_null(perm),
              or_null(mix_lam), has_noise,  given_centroid, mix_lam.size() > shape[0]},
        halves(perm.size() > 0 ? 2 : 1) {}

  template <class E>
  static const E* or_null(const Array<E>& array) {
    return array.size() > 0 ? array.data() : nullptr;
  }
  std::vector<Gather<T>> gathers(bool adjoint) const {
    std::vector<Gather<T>> result(sizes.maps());
    gather_range(result, draws, sizes, adjoint, 0, sizes.maps());
    return result;
  }
};

// f(first unit, last) for pieces of a few units.
template <class F>
void in_pieces(const Sizes& s, int64_t units, const F& f) {
  for (int64_t first = 0; first < units_of(s); first += units) f(first, min64(units_of(s), first + units));
}

template <class T>
py::tuple forward(std::vector<int64_t> shape, bool channels_last, bool per_channel, Array<T> z, Array<int64_t> choice,
                  Array<T> lam, Array<T> sigma, Array<T> noise, Array<T> angle, Array<T> given, Array<int64_t> perm,
                  Array<T> mix_lam, int64_t piece) {
  const Call<T> call(shape, channels_last, per_channel, choice, lam, sigma, angle, perm, mix_lam, noise.size() > 0,
                     given.size() > 0);
  const Sizes& s = call.sizes;
  Output<T> out({z.size() * call.halves}), centroid({s.domains * s.row()});
  Output<int64_t> hard_index({s.domains});
  const T* origin = call.or_null(given);
  for (int64_t d = 0; d < s.domains; ++d) {
    T* mean = centroid.data() + d * s.row();
    Farthest farthest;
    if (per_channel) {
      std::fill_n(mean, s.row(), T(0));
      std::vector<T> sums(s.row());
      for (int64_t map = d; map < s.maps(); map += s.domains) {
        sum_channels(sums.data(), z.data() + map * s.map(), static_cast<const T*>(nullptr), s, 1);
        add_run(mean, Same<T>{1}, Run<T>{sums.data()}, s.row());
      }
      divide_run(mean, T(s.rows()), s.row());
      for (int64_t map = d; map < s.maps(); map += s.domains) {
        const Farthest one = farthest_channel(z.data(), origin != nullptr ? origin + d * s.row() : mean, s, map);
        farthest.see(one.key, one.row);
      }
    } else {
      std::vector<T> distance(s.groups), shares(s.groups);
      const int64_t slice = 5 * piece;
      for (int64_t first = 0; first < s.map(); first += slice) {
        sample_statistics(mean, shares.data(), z.data(), origin != nullptr ? origin + d * s.row() : nullptr, s, d,
                          first, min64(s.map(), first + slice));
        for (int64_t g = 0; g < s.groups; ++g) distance[g] += shares[g];
      }
      for (int64_t g = 0; g < s.groups; ++g) farthest.see(distance_key(distance[g]), g);
    }
    hard_index.data()[d] = farthest.row;
  }
  const auto gathers = call.gathers(false);
  const Forward<T> loop{s,
                        call.draws,
                        out.data(),
                        z.data(),
                        call.or_null(noise),
                        origin != nullptr ? origin : centroid.data(),
                        hard_index.data(),
                        gathers.data(),
                        call.halves};
  for (int64_t map = 0; map < s.maps(); ++map)
    in_pieces(s, piece, [&](int64_t first, int64_t last) { loop(map, first, last); });
  return py::make_tuple(out.take("out"), centroid.take("centroid"), hard_index.take("hard_index"));
}

template <class T>
Array<T> backward(std::vector<int64_t> shape, bool channels_last, bool per_channel, Array<T> grad,
                  Array<int64_t> choice, Array<T> lam, Array<T> angle, Array<int64_t> hard_index, Array<int64_t> perm,
                  Array<T> mix_lam, bool given_centroid, bool detach, int64_t piece) {
  const Call<T> call(shape, channels_last, per_channel, choice, lam, {}, angle, perm, mix_lam, false, given_centroid);
  const Sizes& s = call.sizes;
  Output<T> grad_z({s.maps() * s.map()});
  std::vector<T> map_sums(s.maps() * s.positions());
  if (per_channel)
    for (int64_t map = 0; map < s.maps(); ++map)
      sum_channels(map_sums.data() + map * s.positions(), grad.data() + map * s.steps(call.halves).map,
                   lam.data() + map * s.channels, s, call.halves);
  const auto gathers = call.gathers(true);
  const Backward<T> loop{
      s,           call.draws, grad_z.data(), grad.data(), hard_index.data(), gathers.data(), map_sums.data(),
      call.halves, detach};
  for (int64_t d = 0; d < s.domains; ++d)
    in_pieces(s, piece, [&](int64_t first, int64_t last) { loop(d, first, last); });
  return grad_z.take("grad_z");
}

// With one load or store for a pack where the sizes allow it.
template <class T, class F>
void with_vector(const Sizes& s, const F& f) {
  if (s.channels_last && s.channels % Channels<T, true>::kPack == 0)
    f(std::true_type());
  else
    f(std::false_type());
}

template <class T>
py::tuple block_forward(std::vector<int64_t> shape, bool channels_last, bool per_channel, Array<T> z,
                        Array<int64_t> choice, Array<T> lam, Array<T> sigma, Array<T> noise, Array<T> angle,
                        Array<T> given, Array<int64_t> perm, Array<T> mix_lam, int64_t slices, unsigned seed) {
  const Call<T> call(shape, channels_last, per_channel, choice, lam, sigma, angle, perm, mix_lam, noise.size() > 0,
                     given.size() > 0);
  const Sizes& s = call.sizes;
  using Distances = ChannelDistancesBody<T>;
  const int64_t candidates = Distances::tiles(s);
  Output<T> out({z.size() * call.halves}), centroid({s.domains * s.row()}), sums({s.maps() * s.positions()}),
      shares({s.domains * slices * s.groups});
  Output<int64_t> hard_index({s.domains}), rows({s.maps() * candidates});
  Output<uint64_t> keys({s.maps() * candidates});
  const T* origin = call.or_null(given);
  if (per_channel) {
    using Sums = MapSumsBody<T>;
    launch_on_host(Sums::blocks(s), kThreads, Sums::shared_bytes(), seed,
                   Sums{sums.data(), z.data(), call.draws, s, 1, false});
    launch_on_host(s.maps() * candidates, kThreads, Distances::shared_bytes(), seed,
                   Distances{centroid.data(), keys.data(), rows.data(), sums.data(), z.data(), origin, s});
  } else {
    using Statistics = SampleStatisticsBody<T>;
    launch_on_host(s.domains * slices, kThreads, Statistics::shared_bytes(), seed,
                   Statistics{centroid.data(), shares.data(), z.data(), origin, s, slices});
  }
  with_vector<T>(s, [&](auto vector) {
    launch_on_host(
        s.maps() * slices, kThreads, 0, seed,
        TransformBody<T, vector.value>{out.data(), hard_index.data(), z.data(), call.or_null(noise),
                                       origin != nullptr ? origin : centroid.data(), shares.data(), keys.data(),
                                       rows.data(), slices, candidates, slices, call.halves, call.draws, s});
  });
  sums.take("sums");
  shares.take("shares");
  keys.take("keys");
  rows.take("rows");
  return py::make_tuple(out.take("out"), centroid.take("centroid"), hard_index.take("hard_index"));
}

template <class T>
Array<T> block_backward(std::vector<int64_t> shape, bool channels_last, bool per_channel, Array<T> grad,
                        Array<int64_t> choice, Array<T> lam, Array<T> angle, Array<int64_t> hard_index,
                        Array<int64_t> perm, Array<T> mix_lam, bool given_centroid, bool detach, unsigned seed) {
  const Call<T> call(shape, channels_last, per_channel, choice, lam, {}, angle, perm, mix_lam, false, given_centroid);
  const Sizes& s = call.sizes;
  Output<T> grad_z({s.maps() * s.map()}), map_sums({s.maps() * s.positions()});
  if (per_channel) {
    using Sums = MapSumsBody<T>;
    launch_on_host(Sums::blocks(s), kThreads, Sums::shared_bytes(), seed,
                   Sums{map_sums.data(), grad.data(), call.draws, s, call.halves, true});
  }
  with_vector<T>(s, [&](auto vector) {
    using Body = BackwardBody<T, vector.value>;
    launch_on_host(
        Body::blocks(s), kThreads, Body::shared_bytes(), seed,
        Body{grad_z.data(), grad.data(), hard_index.data(), map_sums.data(), call.draws, s, call.halves, detach});
  });
  map_sums.take("map_sums");
  return grad_z.take("grad_z");
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("latent_augment_forward_" + type).c_str(), &forward<T>);
  m.def(("latent_augment_backward_" + type).c_str(), &backward<T>);
  m.def(("latent_augment_block_forward_" + type).c_str(), &block_forward<T>);
  m.def(("latent_augment_block_backward_" + type).c_str(), &block_backward<T>);
}

}  // namespace dfops::augment

void bind_latent_augment(pybind11::module_& m) {
  dfops::augment::bind<float>(m, "float32");
  dfops::augment::bind<double>(m, "float64");
}
