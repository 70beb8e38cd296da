// Which instruction sets this library was built with and this machine has, and which of them is taken.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace octavo {

// The tables that can run here, fastest first; the last one is the portable one.
std::vector<const Kernels*> available_kernels();

// The table called `name`, or the fastest where the name is empty.
// Throws std::invalid_argument, listing what there is.
const Kernels& chosen_kernels(const std::string& name);

}  // namespace octavo
