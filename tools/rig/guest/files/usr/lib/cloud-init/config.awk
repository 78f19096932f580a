# Reads a cloud-config in the one shape in which pytest-vbox writes it: PyYAML's block style, lists not indented,
# no line folded. Writes FOLDER/hostname, FOLDER/users (lines of KEY VALUE) and SCRIPT, the commands of runcmd.
function fail(why) {
    print "cloud-config: line " NR ": " why > "/dev/stderr"
    failed = 1
    exit 1
}
function scalar(text) {
    if (text ~ /^'.*'$/) {
        text = substr(text, 2, length(text) - 2)
        gsub(/''/, "'", text)
    } else if (text ~ /^["'&*!|>{[]/)
        fail("the guest tiny does not read " text)
    return text
}
function quoted(text) {
    gsub(/'/, "'\\''", text)
    return "'" text "'"
}
function command(text) {
    if (!commands++)
        print "#!/bin/sh" > script
    print text > script
}
function end_of_item() {
    if (item != "")
        command(item)
    item = ""
}
block && /^  / { command(substr($0, 3)); next }
block && /^$/ { command(""); next }
{ block = 0 }
/^#/ || /^$/ { next }
/^[a-z_]+:/ {
    end_of_item()
    section = substr($0, 1, index($0, ":") - 1)
    value = scalar(substr($0, index($0, ":") + 2))
    if (section == "hostname")
        print value > folder "/hostname"
    else if (section ~ /^(users|runcmd)$/ && value != "")
        fail(section " is not a list in block style")
    else if (section !~ /^(users|runcmd|preserve_hostname|manage_etc_hosts|ssh_pwauth|disable_root)$/)
        fail("the guest tiny does not know the key " section)
    next
}
section == "users" && /^- default$/ { next }
section == "users" && /^- name: / { print "name", scalar(substr($0, 9)) > folder "/users"; keys = 0; next }
section == "users" && /^  ssh_authorized_keys:$/ { keys = 1; next }
section == "users" && keys && /^  - / { print "key", scalar(substr($0, 5)) > folder "/users"; next }
section == "users" && /^  [a-z_]+: / {
    keys = 0
    print substr($1, 1, length($1) - 1), scalar(substr($0, index($0, ":") + 2)) > folder "/users"
    next
}
section == "runcmd" && /^- \|[-+]?$/ { end_of_item(); block = 1; next }
section == "runcmd" && /^- - / { end_of_item(); item = quoted(scalar(substr($0, 5))); next }
section == "runcmd" && item != "" && /^  - / { item = item " " quoted(scalar(substr($0, 5))); next }
section == "runcmd" && /^- / { end_of_item(); command(scalar(substr($0, 3))); next }
{ fail("the guest tiny does not read this: " $0) }
END {
    if (!failed)
        end_of_item()
}
