/* Waits for the ACPI power button, an input device, and then tells init to power off. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_DEVICES = 16 };

/* Opens every input device that has a power key; returns how many. */
static int open_buttons(struct pollfd *devices)
{
    int count = 0;
    for (int n = 0; n < MAX_DEVICES; n++) {
        char path[32];
        unsigned char keys[KEY_MAX / 8 + 1] = {0};
        snprintf(path, sizeof path, "/dev/input/event%d", n);
        int device = open(path, O_RDONLY | O_CLOEXEC);
        if (device < 0)
            continue;
        if (ioctl(device, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0 && keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1)
            devices[count++] = (struct pollfd){.fd = device, .events = POLLIN};
        else
            close(device);
    }
    return count;
}

int main(void)
{
    struct pollfd devices[MAX_DEVICES];
    int count = open_buttons(devices);
    while (count > 0 && poll(devices, count, -1) > 0) {
        for (int n = 0; n < count; n++) {
            struct input_event event;
            if (!(devices[n].revents & POLLIN) || read(devices[n].fd, &event, sizeof event) != sizeof event)
                continue;
            if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
                return kill(1, SIGUSR2); /* busybox init: power off */
        }
    }
    fprintf(stderr, "powerbutton: no power button\n");
    pause();
    return 1;
}
