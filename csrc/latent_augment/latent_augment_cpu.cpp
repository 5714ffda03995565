#include <algorithm>
#include <tuple>

#include "latent_augment/latent_augment_host.h"
#include "latent_augment/latent_augment_loops.h"

namespace dfops::augment {
namespace {

// Elements of a map a task takes; tasks are the same whatever the number of threads.
constexpr int64_t kTask = 16384;

int64_t units_a_task(const Sizes& s) { return min64(units_of(s), ceil_div(kTask, run_of(s))); }

void check_partners(const DrawTensors& draws, const Sizes& s) {
  if (!draws.perm) return;
  const int64_t* perm = data<int64_t>(*draws.perm);
  for (int64_t map = 0; map < s.maps(); ++map)
    STD_TORCH_CHECK(0 <= perm[map] && perm[map] < s.domains, "perm must hold domains from 0 to ", s.domains - 1,
                    ", got ", perm[map]);
}

// Centroid and farthest row of every domain.
template <class scalar_t>
void statistics(const ForwardCall& call) {
  using acc_t = acc_type<scalar_t>;
  const Sizes& s = call.sizes;
  acc_t* centroid = mutable_data<acc_t>(call.centroid);
  const scalar_t* z = data<scalar_t>(call.z);
  const acc_t* given = call.given_data<acc_t>();
  std::vector<Farthest> farthest(s.domains);
  if (s.per_channel) {
    std::vector<acc_t> sums(s.maps() * s.positions());
    torch::stable::parallel_for(0, s.maps(), ceil_div(kTask, s.map()), [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map)
        sum_channels(sums.data() + map * s.positions(), z + map * s.map(), static_cast<const acc_t*>(nullptr), s, 1);
    });
    for (int64_t d = 0; d < s.domains; ++d) {
      acc_t* mean = centroid + d * s.positions();
      std::fill_n(mean, s.positions(), acc_t(0));
      for (int64_t g = 0; g < s.groups; ++g)
        add_run(mean, Same<acc_t>{1}, Run<acc_t>{sums.data() + (g * s.domains + d) * s.positions()}, s.positions());
      divide_run(mean, acc_t(s.rows()), s.positions());
    }
    std::vector<Farthest> of_map(s.maps());
    torch::stable::parallel_for(0, s.maps(), ceil_div(kTask, s.map()), [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map)
        of_map[map] =
            farthest_channel(z, (given != nullptr ? given : centroid) + map % s.domains * s.positions(), s, map);
    });
    for (int64_t map = 0; map < s.maps(); ++map) farthest[map % s.domains].see(of_map[map].key, of_map[map].row);
  } else {
    // a slice of all rows stays in the caches until the mean is known
    const int64_t slice = std::max<int64_t>(1024, ceil_div(2 * kTask, s.groups));
    const int64_t slices = ceil_div(s.map(), slice);
    std::vector<acc_t> shares(s.domains * slices * s.groups);
    torch::stable::parallel_for(0, s.domains * slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t d = i / slices, first = i % slices * slice;
        sample_statistics(centroid + d * s.map(), shares.data() + i * s.groups, z,
                          given != nullptr ? given + d * s.map() : nullptr, s, d, first, min64(s.map(), first + slice));
      }
    });
    for (int64_t d = 0; d < s.domains; ++d)
      for (int64_t g = 0; g < s.groups; ++g) {
        acc_t distance = 0;
        for (int64_t i = 0; i < slices; ++i) distance += shares[(d * slices + i) * s.groups + g];
        farthest[d].see(distance_key(distance), g);
      }
  }
  for (int64_t d = 0; d < s.domains; ++d) mutable_data<int64_t>(call.hard_index)[d] = farthest[d].row;
}

template <class acc_t>
std::vector<Gather<acc_t>> gathers_of(const Draws<acc_t>& draws, const Sizes& s, bool adjoint) {
  std::vector<Gather<acc_t>> gathers(s.maps());
  torch::stable::parallel_for(
      0, s.maps(), 1, [&](int64_t begin, int64_t end) { gather_range(gathers, draws, s, adjoint, begin, end); });
  return gathers;
}

std::tuple<Tensor, Tensor, Tensor> forward(const ForwardCall& call) {
  const Sizes& s = call.sizes;
  if (call.z.numel() == 0) return {call.out, call.centroid, call.hard_index};
  check_partners(call.draws, s);
  dispatch(call.z, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    statistics<scalar_t>(call);
    const auto draws = call.draws.template pointers<acc_t>();
    const auto gathers = gathers_of(draws, s, false);
    const acc_t* given = call.given_data<acc_t>();
    const Forward<scalar_t> loop{s,
                                 draws,
                                 mutable_data<scalar_t>(call.out),
                                 data<scalar_t>(call.z),
                                 call.noise_data<scalar_t>(),
                                 given != nullptr ? given : data<acc_t>(call.centroid),
                                 data<int64_t>(call.hard_index),
                                 gathers.data(),
                                 call.draws.halves()};
    const int64_t units = units_a_task(s), tasks = ceil_div(units_of(s), units);
    torch::stable::parallel_for(0, s.maps() * tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % tasks * units;
        loop(i / tasks, first, min64(units_of(s), first + units));
      }
    });
  });
  return {call.out, call.centroid, call.hard_index};
}

std::tuple<Tensor, Tensor, Tensor> latent_augment_cpu(const Tensor& z, const Tensor& choice, const Tensor& lam,
                                                      const OptionalTensor& sigma, const OptionalTensor& noise,
                                                      const OptionalTensor& angle, const OptionalTensor& centroid,
                                                      bool per_channel, bool detach_statistics) {
  return forward(ForwardCall(z, choice, lam, sigma, noise, angle, centroid, std::nullopt, std::nullopt, per_channel));
}

std::tuple<Tensor, Tensor, Tensor> latent_augment_mix_cpu(const Tensor& z, const Tensor& perm, const Tensor& mix_lam,
                                                          const Tensor& choice, const Tensor& lam,
                                                          const OptionalTensor& sigma, const OptionalTensor& noise,
                                                          const OptionalTensor& angle, const OptionalTensor& centroid,
                                                          bool per_channel, bool detach_statistics) {
  return forward(ForwardCall(z, choice, lam, sigma, noise, angle, centroid, perm, mix_lam, per_channel));
}

Tensor latent_augment_backward_cpu(const Tensor& grad, const Tensor& choice, const Tensor& lam,
                                   const OptionalTensor& angle, const Tensor& hard_index, const OptionalTensor& perm,
                                   const OptionalTensor& mix_lam, bool per_channel, bool given_centroid,
                                   bool detach_statistics, bool channels_last) {
  const BackwardCall call(grad, choice, lam, angle, hard_index, perm, mix_lam, per_channel, given_centroid,
                          channels_last);
  const Sizes& s = call.sizes;
  if (grad.numel() == 0) return call.grad_z;
  check_partners(call.draws, s);
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const auto draws = call.draws.template pointers<acc_t>();
    const auto gathers = gathers_of(draws, s, true);
    const int64_t halves = call.draws.halves();
    std::vector<acc_t> map_sums(per_channel ? s.maps() * s.positions() : 0);
    if (per_channel)
      torch::stable::parallel_for(0, s.maps(), ceil_div(kTask, s.map()), [&](int64_t begin, int64_t end) {
        for (int64_t map = begin; map < end; ++map)
          if (draws.reads_rows(draws.transform(s, map)))
            sum_channels(map_sums.data() + map * s.positions(), data<scalar_t>(call.grad) + map * s.steps(halves).map,
                         draws.lam + map * s.channels, s, halves);
      });
    const Backward<scalar_t> loop{s,
                                  draws,
                                  mutable_data<scalar_t>(call.grad_z),
                                  data<scalar_t>(call.grad),
                                  data<int64_t>(call.hard_index),
                                  gathers.data(),
                                  map_sums.data(),
                                  halves,
                                  detach_statistics};
    const int64_t units = units_a_task(s), tasks = ceil_div(units_of(s), units);
    torch::stable::parallel_for(0, s.domains * tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % tasks * units;
        loop(i / tasks, first, min64(units_of(s), first + units));
      }
    });
  });
  return call.grad_z;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("latent_augment", TORCH_BOX(&latent_augment_cpu));
  m.impl("latent_augment_mix", TORCH_BOX(&latent_augment_mix_cpu));
  m.impl("_latent_augment_backward", TORCH_BOX(&latent_augment_backward_cpu));
}

}  // namespace dfops::augment
