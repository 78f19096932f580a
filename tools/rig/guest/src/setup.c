/* All that the guest does before its SSH server starts, in one program: each command of a shell script would
 * cost a tenth of a second in VirtualBox's interpreter. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_address(struct sockaddr *where, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(where, &address, sizeof address);
}

static int interface_up(int control, const char *name, const char *address, const char *mask)
{
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    set_address(&request.ifr_addr, address);
    if (ioctl(control, SIOCSIFADDR, &request) < 0)
        return -1;
    set_address(&request.ifr_netmask, mask);
    ioctl(control, SIOCSIFNETMASK, &request);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return ioctl(control, SIOCSIFFLAGS, &request);
}

/* VirtualBox's NAT gives the adapter in slot n the network 10.0.(n+2).0/24 and the address 15 in it. The
 * slot follows from the place on the PCI bus: 3 is the first adapter, 8, 9 and 10 the next, 16 to 19 the rest. */
static int slot_of(const char *name)
{
    static const int places[] = {3, 8, 9, 10, 16, 17, 18, 19};
    static const char bus[] = "/0000:00:";
    char path[64], real[PATH_MAX];
    snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
    char *address = realpath(path, real) ? strstr(real, bus) : NULL;
    long place = address ? strtol(address + strlen(bus), NULL, 16) : 0;
    for (int slot = 0; slot < 8; slot++)
        if (places[slot] == place)
            return slot;
    return 0;
}

static void network(void)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char address[32], gateway[32];
    int slot = slot_of("eth0");
    interface_up(control, "lo", "127.0.0.1", "255.0.0.0");
    snprintf(address, sizeof address, "10.0.%d.15", slot + 2);
    snprintf(gateway, sizeof gateway, "10.0.%d.2", slot + 2);
    if (interface_up(control, "eth0", address, "255.255.255.0") < 0)
        return;
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    set_address(&route.rt_dst, "0.0.0.0");
    set_address(&route.rt_genmask, "0.0.0.0");
    set_address(&route.rt_gateway, gateway);
    ioctl(control, SIOCADDRT, &route);
}

/* A guest that asks for its address is heard of by that; ours knows it, so it says a word to nobody instead.
 * (pytest-vbox tries to connect once the guest has sent something, or after ten seconds.) */
static void be_heard(void)
{
    struct sockaddr_in discard = {.sin_family = AF_INET, .sin_port = htons(9)};
    char gateway[32];
    snprintf(gateway, sizeof gateway, "10.0.%d.2", slot_of("eth0") + 2);
    inet_pton(AF_INET, gateway, &discard.sin_addr);
    sendto(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "", 1, MSG_DONTWAIT, (struct sockaddr *)&discard,
           sizeof discard);
}

/* Tells the kernel's log, and so every console, that the guest is up. */
static void announce(void)
{
    char uptime[32] = "", line[64];
    int file = open("/proc/uptime", O_RDONLY | O_CLOEXEC);
    if (read(file, uptime, sizeof uptime - 1) > 0)
        uptime[strcspn(uptime, " ")] = '\0';
    /* One write is one line of the log; stdio would first try to seek, which the log refuses. */
    int length = snprintf(line, sizeof line, "<5>tiny: up after %s s\n", uptime);
    if (write(open("/dev/kmsg", O_WRONLY | O_CLOEXEC), line, length) < 0)
        perror("/dev/kmsg");
}

static const char *seed_disc(void)
{
    static char path[16];
    char label[6];
    for (int number = 0; number < 4; number++) {
        snprintf(path, sizeof path, "/dev/sr%d", number);
        int disc = open(path, O_RDONLY | O_CLOEXEC);
        if (disc < 0 && errno == ENOENT)
            break;
        /* The volume's name is at byte 40 of an ISO 9660 disc's sector 16. */
        int found = pread(disc, label, sizeof label, 16 * 2048 + 40) == sizeof label &&
                    strncasecmp(label, "cidata", sizeof label) == 0;
        close(disc);
        if (found)
            return path;
    }
    return NULL;
}

static pid_t start(const char *stage, const char *disc)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/usr/bin/cloud-init", "cloud-init", stage, disc, NULL);
        _exit(127);
    }
    return child;
}

/* As the real one does: users and keys before the SSH server starts, commands beside it. */
static void cloud_init(void)
{
    const char *disc = seed_disc();
    if (disc == NULL)
        return;
    waitpid(start("init", disc), NULL, 0);
    start("final", NULL);
}

int main(void)
{
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mkdir("/dev/pts", 0755);
    mount("devpts", "/dev/pts", "devpts", 0, "mode=620,gid=5");
    sethostname("tiny", 4);
    network();
    cloud_init();
    be_heard();
    announce();
    return 0;
}
