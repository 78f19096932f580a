/* Takes the place of the program VBoxHeadless where there is no kernel module.
 *
 * VirtualBox's VBoxHeadless is a small program that opens the module's device, refuses to go on without it, and
 * then calls TrustedMain in VBoxHeadless.so, which is the real thing. This one initialises VirtualBox's runtime
 * in its driverless mode, as VirtualBox's own test programs do, and calls the same function. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* From VirtualBox's include/VBox/sup.h (SUPR3INIT_F_...). */
enum { UNRESTRICTED = 1 << 0, DRIVERLESS = 1 << 2, DRIVERLESS_IEM_ALLOWED = 1 << 3 };

static void *symbol(const char *library, const char *name)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    void *found = handle ? dlsym(handle, name) : NULL;
    if (!found) {
        fprintf(stderr, "VBoxHeadless: %s\n", dlerror());
        exit(1);
    }
    return found;
}

int main(int argc, char **argv, char **envp)
{
    static const char runtime[] = "/usr/lib/virtualbox/VBoxRT.so";
    int (*initialise)(int, char ***, uint32_t) = symbol(runtime, "RTR3InitExe");
    int (*initialise_support)(uint32_t, void *) = symbol(runtime, "SUPR3InitEx");
    int (*trusted_main)(int, char **, char **) = symbol("/usr/lib/virtualbox/VBoxHeadless.so", "TrustedMain");

    int status = initialise(argc, &argv, 0);
    if (status >= 0)
        status = initialise_support(UNRESTRICTED | DRIVERLESS | DRIVERLESS_IEM_ALLOWED, NULL);
    if (status < 0) {
        fprintf(stderr, "VBoxHeadless: VirtualBox's runtime does not start: error %d\n", status);
        return 1;
    }
    return trusted_main(argc, argv, envp);
}
