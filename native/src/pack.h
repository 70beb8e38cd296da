// From plain numbers to the layouts of kernels.h.
#pragma once

#include "kernels.h"
#include "model.h"

namespace octavo {

// Bytes that a layer's packed weights take.
std::size_t packed_bytes(const LinearSource& source);

// Packs a layer; its weights go to `weights`, which has packed_bytes() and outlives it.
Linear packed(const LinearSource& source, const Kernels& kernels, std::int8_t* weights);
LayerNorm packed(const LayerNormSource& source);
Dense packed(const DenseSource& source);

}  // namespace octavo
