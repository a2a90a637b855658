/* For programs that include the framework's header by its name, and are not to be changed at all. */
#include <opflex-peerstatus.h>
