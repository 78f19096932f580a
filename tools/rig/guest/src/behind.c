/* Runs a program with the lowest priority: behind the SSH server, which a test waits for. */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    if (count < 2)
        return 2;
    setpriority(PRIO_PROCESS, 0, 19);
    execv(arguments[1], arguments + 1);
    perror(arguments[1]);
    return 127;
}
