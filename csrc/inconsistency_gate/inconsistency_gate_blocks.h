// Block-level kernels: packs of kPack elements by a grid-stride loop, then the incomplete last pack. `gamma` may be
// null (factor `scale` alone); it is read on the device.
#pragma once

#include "inconsistency_gate/inconsistency_gate.h"

namespace dfops::gate {

template <class scalar_t, int kPack>
struct ForwardBody {
  scalar_t* out;
  const scalar_t *x, *vertical, *horizontal;
  const acc_type<scalar_t>* gamma;
  acc_type<scalar_t> scale;
  int64_t numel;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    block.each([&](int thread) {
      const acc_t factor = gamma == nullptr ? scale : scale * gamma[0];
      const int64_t first = block.index() * block.threads() + thread, step = block.count() * block.threads();
      for (int64_t i = first; i < numel / kPack; i += step) {
        const pack_t px = reinterpret_cast<const pack_t*>(x)[i], pv = reinterpret_cast<const pack_t*>(vertical)[i],
                     ph = reinterpret_cast<const pack_t*>(horizontal)[i];
        pack_t po;
        for (int k = 0; k < kPack; ++k)
          po.values[k] =
              scalar_t(gate_at<acc_t>(acc_t(px.values[k]), acc_t(pv.values[k]), acc_t(ph.values[k]), factor));
        reinterpret_cast<pack_t*>(out)[i] = po;
      }
      for (int64_t i = numel / kPack * kPack + first; i < numel; i += step)
        out[i] = scalar_t(gate_at<acc_t>(acc_t(x[i]), acc_t(vertical[i]), acc_t(horizontal[i]), factor));
    });
  }
};

// partial (blocks,) receives each block's share of grad_gamma / scale.
template <class scalar_t, int kPack>
struct BackwardBody {
  scalar_t *grad_x, *grad_vertical, *grad_horizontal;
  acc_type<scalar_t>* partial;
  const scalar_t *grad, *x, *vertical, *horizontal;
  const acc_type<scalar_t>* gamma;
  acc_type<scalar_t> scale;
  int64_t numel;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    auto share = block.template local<acc_t>();
    block.each([&](int thread) {
      const acc_t factor = gamma == nullptr ? scale : scale * gamma[0];
      const int64_t first = block.index() * block.threads() + thread, step = block.count() * block.threads();
      acc_t sum = 0;
      for (int64_t i = first; i < numel / kPack; i += step) {
        const pack_t pg = reinterpret_cast<const pack_t*>(grad)[i], px = reinterpret_cast<const pack_t*>(x)[i],
                     pv = reinterpret_cast<const pack_t*>(vertical)[i],
                     ph = reinterpret_cast<const pack_t*>(horizontal)[i];
        pack_t gx, gv, gh;
        for (int k = 0; k < kPack; ++k) {
          const auto g = gate_backward_at<acc_t>(acc_t(pg.values[k]), acc_t(px.values[k]), acc_t(pv.values[k]),
                                                 acc_t(ph.values[k]), factor);
          gx.values[k] = scalar_t(g.x);
          gv.values[k] = scalar_t(g.vertical);
          gh.values[k] = scalar_t(g.horizontal);
          sum += g.gamma;
        }
        reinterpret_cast<pack_t*>(grad_x)[i] = gx;
        reinterpret_cast<pack_t*>(grad_vertical)[i] = gv;
        reinterpret_cast<pack_t*>(grad_horizontal)[i] = gh;
      }
      for (int64_t i = numel / kPack * kPack + first; i < numel; i += step) {
        const auto g =
            gate_backward_at<acc_t>(acc_t(grad[i]), acc_t(x[i]), acc_t(vertical[i]), acc_t(horizontal[i]), factor);
        grad_x[i] = scalar_t(g.x);
        grad_vertical[i] = scalar_t(g.vertical);
        grad_horizontal[i] = scalar_t(g.horizontal);
        sum += g.gamma;
      }
      share[thread] = sum;
    });
    const acc_t total = block.sum(share);
    block.each([&](int thread) {
      if (thread == 0) partial[block.index()] = total;
    });
  }
};

// One block: total[0] = scale * sum of partial (count,).
template <class acc_t>
struct TotalBody {
  acc_t* total;
  const acc_t* partial;
  acc_t scale;
  int64_t count;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    auto share = block.template local<acc_t>();
    block.each([&](int thread) {
      acc_t sum = 0;
      for (int64_t i = thread; i < count; i += block.threads()) sum += partial[i];
      share[thread] = sum;
    });
    const acc_t sum = block.sum(share);
    block.each([&](int thread) {
      if (thread == 0) total[0] = scale * sum;
    });
  }
};

}  // namespace dfops::gate
