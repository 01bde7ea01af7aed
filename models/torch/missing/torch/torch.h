// Found only where the true torch.h is not: turns the compiler's puzzle into one plain line, since
// torch-sys is compiled before any check of ours can run.
#include "libtorch 2.13.0 is missing: run scripts/libtorch first"
